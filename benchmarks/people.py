# SPDX-License-Identifier: Apache-2.0
"""Processor seconds of finding people, by landmark network and by number of people.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/people.py [--photo PHOTO] [--repeats N]

Both networks search the same pictures in one run: the bundled sample (or a photo of yours), and
for the sample cuts of it that show fewer people. Prints the best of the repeats, how often each
network was asked, and the ratio.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from crowdgaussian.core.progress import quiet_native_stderr
from crowdgaussian.people.detect.faces import FaceNetwork
from crowdgaussian.people.detect.landmark_net import LANDMARK_NETWORKS, PatchPrediction, PoseNetwork
from crowdgaussian.people.detect.residual import PeopleSearch
from crowdgaussian.people.types import PeopleConfig
from crowdgaussian.pipeline.photo import load_photo
from crowdgaussian.synthetic.sample import load_ground_truth, sample_photo

MARGIN = 40  # pixels beside the people of a cut


class Counted(PoseNetwork):
    """A network that counts how often it is asked for landmarks."""

    asked = 0

    def predict(self, patch: np.ndarray) -> PatchPrediction | None:
        self.asked += 1
        return super().predict(patch)


@dataclass(frozen=True)
class Search:
    """One search of one picture."""

    seconds: float  # of the processor, all threads
    found: int
    asked: int  # landmarks of the chosen network
    scouted: int  # and of the quick one beside it


def cuts() -> dict[str, np.ndarray]:
    """The sample from its left border to behind each of its people."""
    photo, truth = load_photo(sample_photo(), 2048).pixels, load_ground_truth()
    ends = sorted(person.joints_px[:, 0].max() for person in truth.people)
    return {
        f"sample, {count} people": photo[:, : int(min(end + MARGIN, photo.shape[1]))]
        for count, end in enumerate(ends, start=1)
    }


def search(photo: np.ndarray, landmarks: str) -> Search:
    config = PeopleConfig(landmarks=landmarks)
    with quiet_native_stderr():
        chosen, scout = Counted(landmarks), Counted("full")
        finder = PeopleSearch(chosen, FaceNetwork(), config)
        finder.scout = scout
        started = time.process_time()
        found = finder.find(photo)
        seconds = time.process_time() - started
    return Search(seconds, len(found.people), chosen.asked, scout.asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", type=Path, help="instead of the bundled sample")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    if options.photo:
        pictures = {options.photo.name: load_photo(options.photo, 2048).pixels}
    else:
        pictures = cuts()
    print(f"{'picture':24s}{'network':>8s}{'found':>6s}{'CPU s':>8s}{'asked':>7s}{'scout':>7s}")
    for name, photo in pictures.items():
        best = {}
        for landmarks in LANDMARK_NETWORKS:
            runs = [search(photo, landmarks) for _ in range(options.repeats)]
            one = best[landmarks] = min(runs, key=lambda run: run.seconds)
            print(
                f"{name:24s}{landmarks:>8s}{one.found:6d}{one.seconds:8.1f}"
                f"{one.asked:7d}{one.scouted:7d}",
                flush=True,
            )
        first, second = (best[landmarks].seconds for landmarks in LANDMARK_NETWORKS)
        print(f"{'':24s}{LANDMARK_NETWORKS[0]} takes {first / second:.1f} times as long")


if __name__ == "__main__":
    main()
