# SPDX-License-Identifier: Apache-2.0
"""Table 3 of the paper with the small refiner: SCL on and off, normals on and off.

    python benchmarks/refiner_table3.py OUT [--steps 2000] [--scenes 76] [--rows scl+normals ...]

Runs crowdgaussian's own commands: makes scenes of made-up people, trains four networks from the
same start on the same crops, and measures them on scenes none of them has seen. Goes on where it
was stopped; the table comes when all four rows are there.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROWS = {
    "none": ("--scl", "0", "--no-normals"),
    "normals": ("--scl", "0"),
    "scl": ("--scl", "0.2", "--no-normals"),
    "scl+normals": ("--scl", "0.2"),
}
SCENES = (
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
TRAINING = ("--without-vgg", "--batch", "4", "--crop", "112", "--save-every", "200")


def main() -> None:
    """Everything, from scenes to the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", default="2000")
    parser.add_argument("--scenes", default="76")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    arguments = parser.parse_args()
    out, scenes = arguments.out, str(arguments.out / "scenes")
    crowdgaussian("data", "crowd-scenes", scenes, "--scenes", arguments.scenes, *SCENES)
    for row in arguments.rows:
        crowdgaussian(
            "train",
            "refiner",
            scenes,
            "-o",
            str(out / row),
            *TRAINING,
            *ROWS[row],
            "--steps",
            arguments.steps,
            "--sample-every",
            arguments.steps,
        )
    trained = {row: out / row / "refiner.safetensors" for row in ROWS}
    if all(path.is_file() for path in trained.values()):
        named = [text for row, path in trained.items() for text in ("--refiner", f"{row}={path}")]
        crowdgaussian("evaluate", "refiner", scenes, "-o", str(out / "table3"), *named)


def crowdgaussian(*words: str) -> None:
    """Runs a command of the project; ends this program where it fails."""
    done = subprocess.run([sys.executable, "-m", "crowdgaussian", *words])
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
