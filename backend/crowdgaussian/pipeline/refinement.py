# SPDX-License-Identifier: Apache-2.0
"""The refinement stage in the scene folder: cluster by cluster, at no price for what was there.

A person's entry in scene.json says what became of them: `refinement`. While a refined avatar takes
the first one's place, the first lies beside it as coarse.npz; a run that goes on after a stop there
starts from it, so that nobody is refined twice.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError
from crowdgaussian_shared.formats.atomic import write_bytes
from crowdgaussian_shared.formats.avatar_npz import read_avatar
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import ModelProvenance

from ..refiner.types import STAGE, RefinedCluster
from ..segment.types import CrowdView
from .checkpoint import coarse_path, concerns_everybody, forget_coarse, is_refinement
from .config import Config
from .stages import Measure, files_for

log = logging.getLogger(__name__)
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


def is_finished(folder: SceneFolder, config: Config) -> bool:
    """Whether everybody is reconstructed, and refined where that is wanted."""
    people = folder.info.people
    built = bool(people) and all(p.state == "done" for p in people)
    return built and not waiting(folder, config)


@dataclass
class RefinementRun:
    """What is kept when some of a scene's people are refined."""

    folder: SceneFolder
    view: CrowdView
    config: Config
    measure: Measure
    _models: list[ModelProvenance] = field(default_factory=list, init=False)
    _since: float = field(default=0.0, init=False)  # the last cluster; time.perf_counter

    def start(self, left: list[int]) -> tuple[dict[int, Avatar], list[int]]:
        """Begin with some people who wait.

        Returns:
            The first avatars of everybody, by index, and who is left to refine; a person whose
            avatar cannot be read has failed and is in neither.
        """
        self._note_settings()
        self._models = [file.provenance() for file in files_for(self.config) if file.stage == STAGE]
        avatars = self._avatars(left)
        self._since = time.perf_counter()
        return avatars, [index for index in left if index in avatars]

    def keep(self, cluster: RefinedCluster) -> None:
        """Bring a cluster that is done into the folder.

        Raises:
            ResourceError: the disk is full.
        """
        found = dict(zip(cluster.people, cluster.avatars))
        for index in cluster.people:
            self._keep_or_revert(index, found.get(index), cluster.error)
        seconds = (time.perf_counter() - self._since) / len(cluster.people)
        for index in cluster.people:
            self.folder.add_person_timings(index, {"refine": seconds})
        people = self.folder.timings.people.values()
        self.folder.add_timing("refine", sum(steps.get("refine", 0.0) for steps in people))
        self._since = time.perf_counter()

    def _avatars(self, left: list[int]) -> dict[int, Avatar]:
        """The first avatars of everybody; who cannot be read, and waits, has failed."""
        avatars = {}
        for index, entry in enumerate(self.folder.info.people):
            if entry.state != "done":
                continue
            coarse = coarse_path(self.folder, index)
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

    def _keep_or_revert(self, index: int, avatar: Avatar | None, error: str) -> None:
        """Writes a refined avatar, or why there is none."""
        if avatar is None:
            self._note(index, "failed", error)
            return
        try:
            quality = self.measure(avatar, self.view, index)
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
            if concerns_everybody(problem):
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
        for model in self._models:
            self.folder.add_model(model)
        if before is not None:
            quality["coarse_psnr_db"] = before
        self.folder.update_person(index, refinement="refined", refinement_note="", quality=quality)
        forget_coarse(self.folder, index)

    def _replace(self, index: int, avatar: Avatar) -> None:
        """The refined avatar in the first one's place, which is kept until all is written."""
        coarse, place = coarse_path(self.folder, index), self.folder.person_file(index, "avatar")
        if not coarse.is_file():
            write_bytes(coarse, place.read_bytes())
        self.folder.write_avatar(index, avatar)
        self.folder.write_splats(index)

    def _note(self, index: int, what: str, sentence: str) -> None:
        """The first avatar stays, or comes back."""
        coarse = coarse_path(self.folder, index)
        if coarse.is_file():
            write_bytes(self.folder.person_file(index, "avatar"), coarse.read_bytes())
            self.folder.write_splats(index)
            forget_coarse(self.folder, index)
        self.folder.update_person(index, refinement=what, refinement_note=sentence)

    def _note_settings(self) -> None:
        """A scene made without refinement is refined later."""
        own = {name: value for name, value in self.config.flat().items() if is_refinement(name)}
        settings = {**self.folder.info.settings, **own}
        if settings != self.folder.info.settings:
            self.folder.update(settings=settings)
