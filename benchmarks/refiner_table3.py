# SPDX-License-Identifier: Apache-2.0
"""Table 3 of the paper: SCL on and off, normals on and off.

    python benchmarks/refiner_table3.py OUT [--steps 2000] [--scenes 76] [--rows scl+normals ...]
    python benchmarks/refiner_table3.py OUT --dressed MAKEHUMAN
    python benchmarks/refiner_table3.py OUT --preset paper \\
        --data=--meshes=THUMAN --data=--body=SMPLX_MALE.npz --data=--set=lorm.adapters=FILE

Runs crowdgaussian's own commands: makes scenes, trains four networks from the same start on the
same crops, and measures them on scenes none of them has seen. Goes on where it was stopped; the
table comes when all rows are there. Without --preset it is the small network and made-up people.
With --dressed they wear clothes of their own surfaces, two thirds are rebuilt by the whole
pipeline, networks learn by ST-LPIPS and Gram too (package stlpips_pytorch), and a fifth row does
without these two. --data, --train and --evaluate hand one option each to those commands.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROWS = {
    "none": ("--no-scl", "--no-normals"),
    "normals": ("--no-scl",),
    "scl": ("--no-normals",),
    "scl+normals": (),
}
PLAIN = {"scl+normals, plain": ("--without-vgg",)}  # of --dressed
OWN_SCL = ("--scl", "0.2")  # of the small network; a preset has its own share
SCENES = (
    "--scenes",
    "76",
    "--views",
    "12",
    "--rings",
    "6",
    "--size",
    "224",
    "--most",
    "4",
    "--coarse",
    "photo_fit",
    "--coarse",
    "photo_fit",
    "--coarse",
    "damage",
)
TRAINING = (
    "--without-vgg --batch 4 --crop 112 --save-every 200 --steps 2000 --sample-every 2000".split()
)
DRESSED_SCENES = (
    "--scenes 30 --views 16 --rings 8 --size 320 --most 4 --seed 16 "
    "--coarse estimated --coarse estimated --coarse photo_fit "
    "--set people.landmarks=full --set people.hands=false"
).split()
DRESSED_TRAINING = (
    "--batch 2 --crop 96 --save-every 200 --steps 1200 --sample-every 1200 "
    "--lpips-after 800 --gram-after 800"
).split()
RESULTS = ("refiner.safetensors", "refiner")  # of the small network, of one on Stable Diffusion


def main() -> None:
    """Everything, from scenes to the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--steps")
    parser.add_argument("--scenes")
    parser.add_argument("--dressed", type=Path, metavar="MAKEHUMAN")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help=", ".join((*ROWS, *PLAIN)))
    for command in ("--data", "--train", "--evaluate"):
        parser.add_argument(command, action="append", default=[], metavar="OPTION")
    given = parser.parse_args()
    preset = ("--preset", given.preset) if given.preset else ()
    scenes = str(given.out / "scenes")
    number = ("--scenes", given.scenes) if given.scenes else ()
    usual: tuple[str, ...] = () if preset else SCENES
    if given.dressed:
        usual = *DRESSED_SCENES, "--dressed", str(given.dressed)
    rows = ROWS | (PLAIN if given.dressed else {})
    crowdgaussian("data", "crowd-scenes", scenes, *preset, *usual, *number, *given.data)
    for row in given.rows or rows:
        train(given.out / row, rows[row], scenes, given)
    found = {row: result(given.out / row) for row in rows}
    if all(found.values()):
        named = [text for row, path in found.items() for text in ("--refiner", f"{row}={path}")]
        out = str(given.out / "table3")
        crowdgaussian("evaluate", "refiner", scenes, "-o", out, *preset, *named, *given.evaluate)


def train(out: Path, row: tuple[str, ...], scenes: str, given: argparse.Namespace) -> None:
    """One row of the table, by its own options."""
    options = ["--preset", given.preset] if given.preset else list(TRAINING)
    if given.dressed:
        options = list(DRESSED_TRAINING)
        options += () if "--without-vgg" in row else ("--perceptual", "st-lpips")
    if not given.preset and "--no-scl" not in row:
        options += OWN_SCL
    if given.steps:
        options += ["--steps", given.steps, "--sample-every", given.steps]
    crowdgaussian("train", "refiner", scenes, "-o", str(out), *options, *row, *given.train)


def result(out: Path) -> Path | None:
    """The trained refiner of a row, None where there is none yet."""
    return next((out / name for name in RESULTS if (out / name).exists()), None)


def crowdgaussian(*words: str) -> None:
    """Runs a command of the project; ends this program where it fails."""
    done = subprocess.run([sys.executable, "-m", "crowdgaussian", *words])
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
