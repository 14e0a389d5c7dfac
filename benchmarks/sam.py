# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of the masks stage with SAM on this machine, with random weights.

    python benchmarks/sam.py vit_b --people 12 --side 4096

The file is made up in the published layout (speed does not depend on its values), so nothing has
to be downloaded; the masks it draws mean nothing.
"""

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from crowdgaussian.body import load_body
from crowdgaussian.core.progress import silent
from crowdgaussian.people.types import Crowd, Keypoints, Person
from crowdgaussian.segment.sam.network import load_network
from crowdgaussian.segment.sam.stage import SamSegmenter
from crowdgaussian.segment.types import SegmentConfig
from crowdgaussian.synthetic.sample import load_ground_truth
from crowdgaussian_shared.geometry.camera import Camera

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from _support.sam_made_up import PUBLISHED, layout, random_state  # noqa: E402


def crowd_of(people: int, side: int) -> Crowd:
    """The sample's true people, again and again, in a photo of another size."""
    truth = load_ground_truth()
    camera, factor = truth.camera, side / truth.camera.width
    size = (side, round(camera.height * factor))
    found = []
    for real in truth.people:
        xy = np.zeros((33, 2), np.float32)
        xy[[11, 12, 23, 24]] = real.joints_px[[16, 17, 1, 2]] * factor
        sure = np.isin(np.arange(33), (11, 12, 23, 24)).astype(np.float32)
        box = np.concatenate([real.joints_px.min(0), real.joints_px.max(0)]) * factor
        found.append(
            Person(
                real.params,
                Keypoints(xy, sure, np.zeros((33, 3), np.float32)),
                box.astype(np.float32),
                1.0,
                np.zeros((1, 1), np.uint8),
            )
        )
    K = camera.K * [[factor], [factor], [1]]
    many = tuple(replace(found[k % len(found)]) for k in range(people))
    return Crowd(many, Camera(K, camera.viewmat, *size), "option", (True,) * people)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PUBLISHED, nargs="?", default="vit_b")
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--side", type=int, default=2048, help="longer side of the photo")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sam.pth")
        torch.save(random_state(layout(*PUBLISHED[options.name][:4])), path)
        network = load_network(path, options.device)
    crowd = crowd_of(options.people, options.side)
    photo = np.zeros((crowd.camera.height, crowd.camera.width, 3), np.uint8)
    segmenter = SamSegmenter(SegmentConfig(), load_body(), network)
    started = time.perf_counter()
    masks = segmenter.segment(photo, crowd, silent)
    print(
        f"{time.perf_counter() - started:.1f} s for {len(masks)} people in "
        f"{crowd.camera.width} x {crowd.camera.height} pixels, "
        f"peak RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB"
    )


if __name__ == "__main__":
    main()
