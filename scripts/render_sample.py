# SPDX-License-Identifier: Apache-2.0
"""Render the bundled sample: six people of the open body on a square, with their ground truth.

    .venv/backend/bin/python scripts/render_sample.py --blender-python .venv/blender-4.5/bin/python

Everything is made here: bodies, clothes, hair, paint and place. Writes sample.jpg,
ground_truth.json, masks.png and amodal.png to backend/crowdgaussian/synthetic/sample_data. It takes
13 minutes of processor time; `--percent 40 --samples 12` gives a quick look in another folder.

`--scene second` renders the second sample, for the tests: the same six in each other's poses, two
of them from behind. It goes to tests/data/second_sample.
"""

import argparse
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from crowdgaussian.body import load_body
from crowdgaussian.pipeline.photo import equivalent_focal_px
from crowdgaussian_shared.geometry.axes import scene_viewmat, viewmat_to_blender_camera
from crowdgaussian_shared.geometry.camera import Camera
from sample import figures, truth
from sample.scenes import SCENES, Scene

SCRIPTS = Path(__file__).resolve().parent
CAMERA_HEIGHT, PITCH = 1.5, 5.0  # metres, degrees down
SEED = 100


@dataclass(frozen=True)
class Quality:
    """Size and effort of the render."""

    percent: int
    samples: int
    threads: int


def photo_camera(width: int, height: int) -> Camera:
    """The camera of a sample picture of this size in pixels."""
    focal = equivalent_focal_px(truth.FOCAL_35MM, width, height)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Camera(K, scene_viewmat(CAMERA_HEIGHT, np.radians(PITCH)), width, height)


def write_stage(folder: Path, people: int, camera: Camera, quality: Quality) -> None:
    """What the renderer needs to know beside the figures of so many people."""
    stage = {
        "people": list(range(people)),
        "render": {
            "percent": quality.percent,
            "samples": quality.samples,
            "threads": quality.threads,
            "denoise": True,
            "exposure": 0.1,
            "coverage": True,
        },
        "camera": {
            "K": camera.K.tolist(),
            "width": camera.width,
            "height": camera.height,
            "focus": 5.0,
            "fstop": 2.8,
            "matrix_world": viewmat_to_blender_camera(camera.viewmat).tolist(),
        },
    }
    (folder / "stage.json").write_text(json.dumps(stage))


def render(folder: Path, blender_python: str) -> None:
    """Run Cycles on the stage folder."""
    with tempfile.TemporaryDirectory(prefix="sample_blender_") as settings:
        environment = os.environ | {"PYTHONPATH": str(SCRIPTS), "BLENDER_USER_RESOURCES": settings}
        command = [blender_python, "-m", "sample.blender_render", str(folder)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def make(scene: Scene, out: Path, quality: Quality, blender_python: str) -> None:
    """Build, render, and write a sample."""
    model, camera = load_body("open"), photo_camera(scene.width, scene.height)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sample_stage_") as name:
        stage = Path(name)
        people = []
        for index, who in enumerate(scene.people):
            print(f"{who.name} ({index + 1} of {len(scene.people)})", flush=True)
            people.append(
                figures.write_figure(model, who, SEED + index, camera, stage / f"person{index}")
            )
        write_stage(stage, len(people), camera, quality)
        print("rendering", flush=True)
        render(stage, blender_python)
        truth.write_picture(stage, out, scene.jpeg_quality, scene.chroma)
        truth.write_truth(stage, out, model, camera, list(zip(scene.people, people, strict=True)))
    for path in sorted(out.iterdir()):
        print(path, path.stat().st_size)


def main() -> None:
    """Read the options and make the sample they name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blender-python", required=True, help="a Python with bpy 4.5")
    parser.add_argument("--scene", choices=SCENES, default="sample")
    parser.add_argument("--out", type=Path, help="a folder; default: the scene's own")
    parser.add_argument("--percent", type=int, default=100)
    parser.add_argument("--samples", type=int, help="per pixel; default: the scene's own")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    scene = SCENES[options.scene]
    quality = Quality(options.percent, options.samples or scene.samples, options.threads)
    make(scene, options.out or scene.out, quality, options.blender_python)


if __name__ == "__main__":
    main()
