# SPDX-License-Identifier: Apache-2.0
"""Photo -> everybody in it by Multi-HMR, on the shared floor; implements PeopleEstimator."""

import numpy as np
import torch
from crowdgaussian_shared.errors import CrowdGaussianError

from ..body.model import BodyModel
from ..progress import Progress, Report
from .boxes import read_boxes
from .camera import photo_camera
from .config import PeopleConfig
from .files import multihmr_file, smplx_file
from .letterbox import letterbox
from .multihmr_bodies import in_photo, known_camera, start_bodies
from .multihmr_body import SmplxPeople
from .multihmr_checkpoint import load_multihmr
from .multihmr_network import Humans, MultiHmrNetwork
from .result import single_thread
from .settle import settle_bodies
from .types import Crowd


class MultiHmr:
    """The network's people, told by the body model of the run and put on one floor."""

    def __init__(self, config: PeopleConfig, body: BodyModel) -> None:
        """Finds and loads the network.

        Raises:
            CrowdGaussianError: its file, or that of SMPL-X, is missing or damaged.
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.config, self.body, self.device = config, body, device
        self.network: MultiHmrNetwork = load_multihmr(multihmr_file(config), device)
        smplx = None if body.name == "smplx" else smplx_file(config)
        self.smplx = smplx and SmplxPeople(smplx)

    def estimate(self, photo: np.ndarray, focal_px: float | None, report: Report) -> Crowd:
        """Finds everybody and puts them on the floor.

        Args:
            photo: [H, W, 3] uint8 sRGB.
            focal_px: pixels, from EXIF or an option; None takes the configured field of view.
            report: called between the steps.

        Raises:
            CrowdGaussianError: nobody was found, or people.boxes is wrong.
        """
        shape = photo.shape[:2]
        K, source = photo_camera(focal_px, shape, self.config.default_fov)
        report(Progress("people", 0.0, message="Multi-HMR looks at the photo"))
        humans = self.look(photo, K)
        people = len(humans.scores)
        report(Progress("people", 0.6, None, people, f"{people} found, looking for the ground"))
        with single_thread():
            start = start_bodies(humans, self.body, self.smplx)
        crowd = settle_bodies(self.body, start, humans.scores, K, shape, self.config, source)
        report(Progress("people", 0.95, None, people, "people placed"))
        return crowd

    def look(self, photo: np.ndarray, K: np.ndarray) -> Humans:
        """The network's people in the camera K of the photo, left to right, on the CPU.

        Raises:
            CrowdGaussianError: nobody was found.
        """
        view = letterbox(photo, self.network.sizes.image)
        used = known_camera(K, max(photo.shape[:2]))
        camera = torch.as_tensor(view.camera(used), dtype=torch.float32, device=self.device)
        found = self.network(view.pixels[None].to(self.device), camera[None],
                             self.config.multihmr_score)[0]
        if not len(found.scores):
            raise CrowdGaussianError(
                "Multi-HMR found no person in the photo; use one in which heads are seen, or set "
                "stages.people to keypoint_fit.")
        humans = in_photo(Humans(*(part.cpu() for part in vars(found).values())), view, used, K)
        kept = self._wanted(humans, photo.shape[:2])[:self.config.max_people]
        order = kept[humans.loc[kept, 0].argsort()]
        return Humans(*(part[order] for part in vars(humans).values()))

    def _wanted(self, humans: Humans, shape: tuple[int, int]) -> torch.Tensor:
        """Indices of the people, best first: all, or the best one with its head in each box."""
        if not self.config.boxes:
            return torch.arange(len(humans.scores))
        chosen: list[int] = []
        for number, box in enumerate(read_boxes(self.config.boxes, shape), start=1):
            x, y = humans.loc.T.numpy()
            inside = (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])
            free = [k for k in np.flatnonzero(inside).tolist() if k not in chosen]
            if not free:
                raise CrowdGaussianError(
                    f"Multi-HMR sees no head in box {number} of people.boxes; draw it around the "
                    "whole person, or leave it out.")
            chosen.append(free[0])
        return torch.tensor(sorted(chosen))
