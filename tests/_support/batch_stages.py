# SPDX-License-Identifier: Apache-2.0
"""What the workers of a batch load in tests: stand-ins; the first pixel says how they behave."""

import os
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import MissingFileError
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from _support.stand_ins import Script, StandInPeople, write_photo  # noqa: E402

STAGES = "_support.batch_stages:load"
WHOLE, POISON, HANG, BUG, NOBODY, MORTAL, SLOW = range(7)
DIARY = "CROWDGAUSSIAN_BATCH_DIARY"  # a file in which each loading is a line: the process


def make_photo(path, kind=WHOLE, people=2, seed=0):
    """A PNG at which the stages behave in one of those ways."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_photo(path, seed)
    pixels = np.array(Image.open(path))
    pixels[0, 0] = kind, people, 0
    Image.fromarray(pixels).save(path)
    return path


def note(line):
    with open(os.environ[DIARY], "a") as diary:
        diary.write(f"{line}\n")


def load(config):
    """As pipeline.stages.build_stages."""
    if config.people.boxes == "missing":
        raise MissingFileError("The model is not there.")
    note(f"load {os.getpid()}")
    script = Script()
    return replace(script.stages(config), people=People(script))


@dataclass
class People:
    """Behaves as the photo's first pixel says, once the real work would begin."""

    script: Script

    def estimate(self, photo, focal_px, report):
        kind, people, _ = (int(value) for value in photo[0, 0])
        note(f"estimate {zlib.crc32(photo.tobytes())}")
        self.script.people = 0 if kind == NOBODY else people
        self.script.seconds = 0.5 if kind == SLOW else 0.0
        if kind == POISON or (kind == MORTAL and "died" not in Path(os.environ[DIARY]).read_text()):
            note("died")
            os._exit(9)
        if kind == HANG:
            child = subprocess.Popen(["sleep", "600"], start_new_session=True)
            note(f"child {child.pid}")
            time.sleep(600)
        if kind == BUG:
            raise ValueError("a bug")
        return StandInPeople(self.script).estimate(photo, focal_px, report)
