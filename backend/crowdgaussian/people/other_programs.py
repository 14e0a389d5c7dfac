# SPDX-License-Identifier: Apache-2.0
"""People by another program: PromptHMR, SAM 3D Body, or anybody's estimator.

Stage "command" runs it, stage "results" reads what it left behind earlier. Implements
PeopleEstimator.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from PIL import Image

from ..body.model import BodyModel
from ..progress import Progress, Report
from .camera import intrinsics, photo_camera
from .command import check_command, run_estimator
from .config import PeopleConfig
from .found_bodies import bodies_of
from .grounding import at_focal
from .result import single_thread
from .results.read import read_results
from .results.types import FoundPeople
from .settle import settle_bodies
from .transfer import StartBodies
from .types import Crowd

_DEFAULT = "the bundled default is stages.people=keypoint_fit"
_SCORE = 0.9  # of people whose program gives none


class _OtherProgram:
    """What both stages share: found people become the crowd."""

    def __init__(self, config: PeopleConfig, body: BodyModel) -> None:
        """config: options; body: the model that people become."""
        self.config, self.body = config, body

    def crowd(self, found: FoundPeople, photo: np.ndarray, focal_px: float | None,
              report: Report) -> Crowd:
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
        keep = np.argsort(-scores)[:self.config.max_people]
        middle = start.bodies.pelvis[:, 0] / start.bodies.pelvis[:, 2].abs()
        order = torch.as_tensor(sorted(keep.tolist(), key=lambda k: float(middle[k])))
        start = StartBodies(start.bodies.select(order), start.hands[order])
        crowd = settle_bodies(self.body, start, torch.as_tensor(scores)[order], K,
                              shape, self.config, source)
        report(Progress("people", 0.95, None, people, "people placed"))
        return crowd


class CommandPeople(_OtherProgram):
    """Runs people.command on the photo and reads what it wrote."""

    def __init__(self, config: PeopleConfig, body: BodyModel) -> None:
        """Raises CrowdGaussianError when no usable command is set."""
        super().__init__(config, body)
        if not config.command:
            raise CrowdGaussianError(
                "Stage 'command' needs people.command, as in --people-command \"python "
                f"my_estimator.py {{photo}} {{out}}\"; {_DEFAULT}.")
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
            run_estimator(self.config.command, picture, out, self.config.command_seconds, report)
            found = read_results(out, photo.shape[:2])
        return self.crowd(found, photo, focal_px, report)


class ResultPeople(_OtherProgram):
    """Reads people.results, which an estimator wrote earlier for the same photo."""

    def __init__(self, config: PeopleConfig, body: BodyModel) -> None:
        """Raises CrowdGaussianError when no results are named."""
        super().__init__(config, body)
        if not config.results:
            raise CrowdGaussianError(
                "Stage 'results' needs people.results, the file or folder that an estimator "
                f"wrote; {_DEFAULT}.")

    def estimate(self, photo: np.ndarray, focal_px: float | None, report: Report) -> Crowd:
        """Reads everybody; as PeopleEstimator.

        Raises:
            CrowdGaussianError: the results cannot be read.
        """
        found = read_results(Path(self.config.results).expanduser(), photo.shape[:2])
        return self.crowd(found, photo, focal_px, report)


def _camera_of(found: FoundPeople, shape: tuple[int, int], fov: float) -> tuple[np.ndarray, str]:
    """The program's camera for the photo's present size, and the focal length's source.

    The program may have seen the photo before it was made smaller; its principal point, in the
    middle of what it saw, tells the size.
    """
    if found.K is None:
        return photo_camera(None, shape, fov)
    height, width = shape
    factor = width / (2 * found.K[0, 2])
    return intrinsics(float(found.K[0, 0]) * factor, width, height), "people"
