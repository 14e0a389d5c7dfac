# SPDX-License-Identifier: Apache-2.0
"""Render the bundled sample: six people of the open body on a square, with their ground truth.

    .venv/backend/bin/python scripts/render_sample.py --blender-python .venv/blender-4.5/bin/python

Everything is made here: bodies, clothes, hair, paint and place. Writes sample.jpg,
ground_truth.json, masks.png and amodal.png to backend/crowdgaussian/sample. It takes 13 minutes
of processor time; `--percent 40 --samples 12` gives a quick look in another folder.
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
from sample import cast, figures, truth

SCRIPTS = Path(__file__).resolve().parent
OUT = SCRIPTS.parent / "backend/crowdgaussian/sample"
WIDTH, HEIGHT = 1600, 1067
CAMERA_HEIGHT, PITCH = 1.5, 5.0  # metres, degrees down
SEED = 100


@dataclass(frozen=True)
class Quality:
    """Size and effort of the render."""

    percent: int = 100
    samples: int = 48
    threads: int = 2


def photo_camera() -> Camera:
    """The camera of the sample picture."""
    focal = equivalent_focal_px(truth.FOCAL_35MM, WIDTH, HEIGHT)
    K = np.array([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1.0]])
    return Camera(K, scene_viewmat(CAMERA_HEIGHT, np.radians(PITCH)), WIDTH, HEIGHT)


def write_stage(folder: Path, camera: Camera, quality: Quality) -> None:
    """What the renderer needs to know beside the figures."""
    stage = {
        "people": list(range(len(cast.CAST))),
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


def main() -> None:
    """Build, render, and write the sample."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blender-python", required=True, help="a Python with bpy 4.5")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--percent", type=int, default=100)
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, camera = load_body("open"), photo_camera()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sample_stage_") as name:
        stage = Path(name)
        people = []
        for index, who in enumerate(cast.CAST):
            print(f"{who.name} ({index + 1} of {len(cast.CAST)})", flush=True)
            people.append(
                figures.write_figure(model, who, SEED + index, camera, stage / f"person{index}")
            )
        write_stage(stage, camera, Quality(options.percent, options.samples, options.threads))
        print("rendering", flush=True)
        render(stage, options.blender_python)
        truth.write_truth(stage, options.out, model, camera, people)
    for path in sorted(options.out.iterdir()):
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
