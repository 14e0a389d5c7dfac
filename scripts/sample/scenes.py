# SPDX-License-Identifier: Apache-2.0
"""Which pictures there are: the bundled sample, and a second one, small, for the tests."""

from dataclasses import dataclass, replace
from pathlib import Path

from crowdgaussian.synthetic.sample import FOLDER

from . import poses
from .cast import CAST, CHILD, DANCER, FATHER, GRANDFATHER, RUNNER, STUDENT, Character

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Scene:
    """One picture: who is in it, how large it is, and where it is kept."""

    people: tuple[Character, ...]
    out: Path
    width: int
    height: int
    samples: int  # of Cycles, per pixel
    jpeg_quality: int
    chroma: int  # Pillow's subsampling: 0 keeps all colour, 2 a quarter of it


# The same six, in each other's poses: two from behind, one in profile, one a third hidden.
SECOND = (
    replace(FATHER, place=(-0.62, -4.75), facing=171, pose=poses.walking),
    replace(DANCER, place=(0.72, -4.95), facing=22, pose=poses.hands_on_hips),
    replace(GRANDFATHER, place=(-1.55, -5.25), facing=86, pose=poses.looking_at_phone),
    replace(CHILD, place=(0.10, -4.25), facing=-14, pose=poses.waving),
    replace(RUNNER, place=(1.42, -4.85), facing=187, pose=poses.cheering),
    replace(STUDENT, place=(0.26, -5.8), facing=-6, pose=poses.waving),
)

SCENES = {
    "sample": Scene(CAST, FOLDER, 1600, 1067, 48, 92, 0),
    "second": Scene(SECOND, ROOT / "tests/data/second_sample", 1000, 667, 32, 85, 2),
}
