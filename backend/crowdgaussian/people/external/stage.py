# SPDX-License-Identifier: Apache-2.0
"""People by another program: PromptHMR, SAM 3D Body, or anybody's estimator.

Stage "command" runs it, stage "results" reads what it left behind earlier. Implements
PeopleEstimator.
"""

import shlex
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.errors import ResourceError, SettingError
from crowdgaussian_shared.geometry.camera import intrinsics, photo_camera
from crowdgaussian_shared.scene.schema import FocalSource
from PIL import Image

from ...body.model import BodyModel
from ...core.progress import Progress, Report
from ..crowd import build_crowd, single_thread
from ..fit.convert import StartBodies
from ..ground.placement import at_focal
from ..types import Crowd, PeopleConfig
from .formats import read_results
from .types import FoundPeople, bodies_of

# Running somebody's program as a process of its own, in an environment of its own

PHOTO, OUT = "{photo}", "{out}"


@dataclass(frozen=True)
class Program:
    """A kind of program that a user may name, and how sentences speak of it."""

    name: str
    places: tuple[str, ...]  # what a command must name
    example: str
    doing: str  # "mine.py looks at the photo"
    slow: str  # what to do about one that takes too long


ESTIMATOR = Program(
    "people",
    (PHOTO, OUT),
    '--people-command "python my_estimator.py {photo} {out}"',
    "looks at the photo",
    "set people.command_seconds higher or use a smaller photo",
)
_TICK = 0.2  # seconds between looks at the process and at Cancel
_GRACE = 5.0  # seconds that a stopped process has to end by itself
_KEPT = 300  # characters of its last words


def check_command(command: str, program: Program = ESTIMATOR) -> list[str]:
    """The command's words.

    Raises:
        SettingError: it cannot be split, or does not name what the program needs.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SettingError(f"The {program.name} command cannot be read ({error}).") from error
    if not words or any(place not in command for place in program.places):
        first, last = ", ".join(program.places[:-1]), program.places[-1]
        raise SettingError(
            f"The {program.name} command must name {first} and {last}, as in {program.example}."
        )
    return words


def run_program(
    program: Program, command: str, files: Mapping[str, Path], seconds: float, report: Report
) -> None:
    """Runs the command and waits; the process is ended when the run is stopped.

    Args:
        program: what it is.
        command: with the program's places; no shell is involved.
        files: what stands for each place: pictures it reads, the empty folder it writes to.
        seconds: after which it is given up.
        report: called while waiting; raises to stop.

    Raises:
        CrowdGaussianError: it cannot be started, fails, or takes too long.
    """
    words = check_command(command, program)
    for place, path in files.items():
        words = [word.replace(place, str(path)) for word in words]
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise SettingError(
                f"The {program.name} command cannot be started: {words[0]} ({error.strerror})."
            ) from error
        try:
            _wait(process, program, Path(words[0]).name, seconds, report)
        finally:
            _end(process)
        if process.returncode != 0:
            log.seek(max(0, log.tell() - 20 * _KEPT))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
            said = lines[-1].strip()[-_KEPT:] if lines else "it said nothing"
            raise ResourceError(
                f"The {program.name} command ended with code {process.returncode}: {said}"
            )


def _wait(
    process: subprocess.Popen, program: Program, name: str, seconds: float, report: Report
) -> None:
    started = time.monotonic()
    while process.poll() is None:
        passed = time.monotonic() - started
        if passed > seconds:
            raise ResourceError(
                f"The {program.name} command took longer than {seconds:.0f} s; {program.slow}."
            )
        report(Progress("people", 0.0, message=f"{name} {program.doing}"))
        time.sleep(_TICK)


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_DEFAULT = "the bundled default is stages.people=keypoint_fit"
_SCORE = 0.9  # of people whose program gives none


class _OtherProgram:
    """What both stages share: found people become the crowd."""

    def __init__(self, config: PeopleConfig, body: BodyModel) -> None:
        """config: options; body: the model that people become."""
        self.config, self.body = config, body

    def crowd(
        self, found: FoundPeople, photo: np.ndarray, focal_px: float | None, report: Report
    ) -> Crowd:
        """The crowd of people that were found in the photo.

        Args:
            found: in the camera of the photo, or of a larger copy of it.
            photo: [H, W, 3] uint8 sRGB.
            focal_px: pixels, None for the program's own.
            report: called between the steps.
        """
        people = len(found)
        report(Progress("people", 0.6, None, people, f"{people} found, looking for the ground"))
        shape = photo.shape[:2]
        with single_thread():
            start = bodies_of(found, self.body)
        K, source = _camera_of(found, shape, self.config.default_fov)
        if focal_px is not None:
            K, bodies = at_focal(K, start.bodies, focal_px)
            start, source = StartBodies(bodies, start.hands), "exif"
        scores = np.full(people, _SCORE) if found.scores is None else found.scores
        keep = np.argsort(-scores)[: self.config.max_people]
        middle = start.bodies.pelvis[:, 0] / start.bodies.pelvis[:, 2].abs()
        order = torch.as_tensor(sorted(keep.tolist(), key=lambda k: float(middle[k])))
        start = StartBodies(start.bodies.select(order), start.hands[order])
        crowd = build_crowd(
            self.body, start, torch.as_tensor(scores)[order], K, shape, self.config, source
        )
        report(Progress("people", 0.95, None, people, "people placed"))
        return crowd


class CommandPeople(_OtherProgram):
    """Runs people.command on the photo and reads what it wrote."""

    def __init__(self, config: PeopleConfig, body: BodyModel) -> None:
        """Raises CrowdGaussianError when no usable command is set."""
        super().__init__(config, body)
        if not config.command:
            raise SettingError(
                "Stage 'command' needs people.command, as in --people-command \"python "
                f'my_estimator.py {{photo}} {{out}}"; {_DEFAULT}.'
            )
        check_command(config.command)

    def estimate(self, photo: np.ndarray, focal_px: float | None, report: Report) -> Crowd:
        """Finds everybody; as PeopleEstimator.

        Raises:
            CrowdGaussianError: the command failed, or left nothing that can be read.
        """
        with tempfile.TemporaryDirectory(prefix="crowdgaussian-people-") as place:
            picture, out = Path(place, "photo.png"), Path(place, "out")
            Image.fromarray(photo).save(picture)
            out.mkdir()
            files = {PHOTO: picture, OUT: out}
            run_program(ESTIMATOR, self.config.command, files, self.config.command_seconds, report)
            found = read_results(out, photo.shape[:2])
        return self.crowd(found, photo, focal_px, report)


class ResultPeople(_OtherProgram):
    """Reads people.results, which an estimator wrote earlier for the same photo."""

    def __init__(self, config: PeopleConfig, body: BodyModel) -> None:
        """Raises CrowdGaussianError when no results are named."""
        super().__init__(config, body)
        if not config.results:
            raise SettingError(
                "Stage 'results' needs people.results, the file or folder that an estimator "
                f"wrote; {_DEFAULT}."
            )

    def estimate(self, photo: np.ndarray, focal_px: float | None, report: Report) -> Crowd:
        """Reads everybody; as PeopleEstimator.

        Raises:
            CrowdGaussianError: the results cannot be read.
        """
        found = read_results(Path(self.config.results).expanduser(), photo.shape[:2])
        return self.crowd(found, photo, focal_px, report)


def _camera_of(
    found: FoundPeople, shape: tuple[int, int], fov: float
) -> tuple[np.ndarray, FocalSource]:
    """The program's camera for the photo's present size, and the focal length's source.

    The program may have seen the photo before it was made smaller; its principal point, in the
    middle of what it saw, tells the size.
    """
    if found.K is None:
        return photo_camera(None, shape, fov)
    height, width = shape
    factor = width / (2 * found.K[0, 2])
    return intrinsics(float(found.K[0, 0]) * factor, width, height), "people"
