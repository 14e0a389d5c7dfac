# SPDX-License-Identifier: Apache-2.0
"""The refinement stage in the scene folder: cluster by cluster, at no price for what was there.

A person's entry in scene.json says what became of them: `refinement`. While a refined avatar takes
the first one's place, the first lies beside it as coarse.npz; a run that goes on after a stop there
starts from it, so that nobody is refined twice.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError
from crowdgaussian_shared.formats.atomic import write_bytes
from crowdgaussian_shared.formats.avatar_npz import read_avatar
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import ModelProvenance

from ..core.progress import Progress, Report
from ..people.types import Crowd
from ..refiner.weights import STAGE
from ..segment.types import PersonMask
from .checkpoint import is_refinement
from .config import Config
from .stages import Stages, files_for

log = logging.getLogger(__name__)
COARSE = "coarse.npz"
_SAME_DB = 0.005  # what a masked PSNR may lose and still be called the same


def waiting(folder: SceneFolder, config: Config, chosen: Iterable[int] | None = None) -> list[int]:
    """Who is reconstructed and has yet to be refined, of those chosen."""
    if config.stages.refiner == "none":
        return []
    people = folder.info.people
    indices = range(len(people)) if chosen is None else sorted(chosen)
    return [
        i for i in indices if people[i].state == "done" and people[i].refinement in ("", "failed")
    ]


def forget(folder: SceneFolder, index: int) -> None:
    """A person gets a new first avatar: nothing of an older one counts any more."""
    _coarse_path(folder, index).unlink(missing_ok=True)


def stored_masks(folder: SceneFolder) -> list[PersonMask]:
    """Everybody's masks; those who are left out have no pixel.

    Raises:
        CrowdGaussianError: a mask is damaged.
    """
    photo = folder.info.photo
    nothing = np.zeros((photo.height, photo.width), bool)
    return [
        PersonMask(folder.read_mask(i), folder.read_mask(i, "amodal"), entry.occlusion)
        if {"mask", "amodal"} <= entry.files.keys()
        else PersonMask(nothing, nothing, 0.0)
        for i, entry in enumerate(folder.info.people)
    ]


@dataclass(frozen=True)
class Refining:
    """What refining some of a scene's people needs."""

    folder: SceneFolder
    photo: np.ndarray  # [H, W, 3] uint8 sRGB
    crowd: Crowd
    config: Config
    stages: Stages
    report: Report

    def run(self, chosen: Iterable[int] | None = None) -> None:
        """Refines those who wait for it; each cluster is in the folder when it is done.

        Args:
            chosen: people it may touch; None: everybody.

        Raises:
            CrowdGaussianError: the disk is full, or a mask is damaged.
            Cancelled: by the report; finished clusters stay.
        """
        left = waiting(self.folder, self.config, chosen)
        if not left or self.stages.refiner is None:
            return
        self.report(Progress("refine", 0.0))
        self._note_settings()
        avatars, masks = self._avatars(left), stored_masks(self.folder)
        models = [file.provenance() for file in files_for(self.config) if file.stage == STAGE]
        started = time.perf_counter()
        clusters = self.stages.refiner.refine(
            self.photo,
            self.crowd,
            masks,
            avatars,
            self.report,
            [index for index in left if index in avatars],
        )
        for cluster in clusters:
            found = dict(zip(cluster.people, cluster.avatars))
            for index in cluster.people:
                self._settle(index, found.get(index), cluster.error, masks, models)
            seconds = (time.perf_counter() - started) / len(cluster.people)
            for index in cluster.people:
                self.folder.add_person_timings(index, {"refine": seconds})
            people = self.folder.timings.people.values()
            self.folder.add_timing("refine", sum(steps.get("refine", 0.0) for steps in people))
            started = time.perf_counter()
        self.report(Progress("refine", 1.0))

    def _avatars(self, left: list[int]) -> dict[int, Avatar]:
        """The first avatars of everybody; who cannot be read, and waits, has failed."""
        avatars = {}
        for index, entry in enumerate(self.folder.info.people):
            if entry.state != "done":
                continue
            coarse = _coarse_path(self.folder, index)
            try:
                avatars[index] = (
                    read_avatar(coarse)
                    if index in left and coarse.is_file()
                    else self.folder.read_avatar(index)
                )
            except CrowdGaussianError as error:
                if index in left:
                    self._note(index, "failed", str(error))
        return avatars

    def _settle(
        self,
        index: int,
        avatar: Avatar | None,
        error: str,
        masks: list[PersonMask],
        models: list[ModelProvenance],
    ) -> None:
        """Writes a refined avatar, or why there is none."""
        if avatar is None:
            self._note(index, "failed", error)
            return
        try:
            quality = self.stages.measure(avatar, self.photo, self.crowd, masks, index)
            before = self.folder.info.people[index].quality.get("psnr_db")
            after = quality.get("psnr_db", float("nan"))
            if before is not None and not after >= before - _SAME_DB:
                self._note(
                    index,
                    "kept",
                    f"Refined, this person matches the photo at {after:.1f} "
                    f"dB instead of {before:.1f} dB, so the first avatar stays.",
                )
                return
            self._replace(index, avatar)
        except Cancelled:
            raise
        except CrowdGaussianError as problem:
            if isinstance(problem.__cause__, OSError):
                raise
            self._note(index, "failed", str(problem))
            return
        except Exception as problem:
            log.exception("person %d could not be refined", index)
            self._note(
                index,
                "failed",
                f"An unexpected {type(problem).__name__} ended this "
                "person's refinement; the log has the details.",
            )
            return
        for model in models:
            self.folder.add_model(model)
        if before is not None:
            quality["coarse_psnr_db"] = before
        self.folder.update_person(index, refinement="refined", refinement_note="", quality=quality)
        forget(self.folder, index)

    def _replace(self, index: int, avatar: Avatar) -> None:
        """The refined avatar in the first one's place, which is kept until all is written."""
        coarse, place = _coarse_path(self.folder, index), self.folder.person_file(index, "avatar")
        if not coarse.is_file():
            write_bytes(coarse, place.read_bytes())
        self.folder.write_avatar(index, avatar)
        self.folder.write_splats(index)

    def _note(self, index: int, what: str, sentence: str) -> None:
        """The first avatar stays, or comes back."""
        coarse = _coarse_path(self.folder, index)
        if coarse.is_file():
            write_bytes(self.folder.person_file(index, "avatar"), coarse.read_bytes())
            self.folder.write_splats(index)
            forget(self.folder, index)
        self.folder.update_person(index, refinement=what, refinement_note=sentence)

    def _note_settings(self) -> None:
        """A scene made without refinement is refined later."""
        own = {name: value for name, value in self.config.flat().items() if is_refinement(name)}
        settings = {**self.folder.info.settings, **own}
        if settings != self.folder.info.settings:
            self.folder.update(settings=settings)


def _coarse_path(folder: SceneFolder, index: int) -> Path:
    return folder.resolve(f"people/{index:03d}/{COARSE}")
