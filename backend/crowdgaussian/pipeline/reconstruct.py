# SPDX-License-Identifier: Apache-2.0
"""The main job, both halves of the paper's Figure 2: photo -> coarse crowd -> refined crowd."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crowdgaussian_shared.errors import InputError, ResourceError
from crowdgaussian_shared.formats.atomic import only_writer
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.scene.folder import SceneFolder

from ..core.progress import Progress, Report, avatars_among, freeing, silent
from ..people.types import Crowd
from ..refiner.types import RefinedCluster
from ..segment.types import CrowdView, PersonMask
from . import checkpoint as kept
from .config import Config, Job
from .photo import Photo, chosen_focal, load_photo
from .refinement import RefinementRun, is_finished, waiting
from .stages import Stages, build_stages

if TYPE_CHECKING:
    from ..refiner.stage import CrowdRefinement
Chosen = Iterable[int] | None  # indices of people; None: everybody


def reconstruct(
    job: Job, report: Report = silent, make_stages: Callable[[Config], Stages] = build_stages
) -> SceneFolder:
    """Run the whole job, or the rest of it where an earlier run stopped.

    The folder is valid at every moment, and one run's own; who fails stops nobody else. Edits:
    corrections.py.

    Args:
        report: called between steps; raises Cancelled to stop.
        make_stages: loads the models; called only when something is left to do.

    Raises:
        InputError: an unusable photo or folder, nobody found, or nobody reconstructed.
        BusyError: another run is at work in the folder.
        CrowdGaussianError: another branch: the disk, a setting, a file of weights.
        Cancelled: by `report`.
    """
    photo = load_photo(job.photo, job.config.photo.max_side)
    settings = {**job.config.flat(), kept.PHOTO_KEY: photo.digest}
    _check_place(job.out)
    with only_writer(job.out) as check:

        def told(step: Progress) -> None:
            check()
            report(step)

        steps = Steps(job, photo, freeing(told), make_stages)
        if job.edits is not None:
            from .corrections import Corrections  # and torch with it

            return Corrections(job, job.edits, photo, steps).result(settings)
        return steps.all(settings)


def _check_place(out: Path) -> None:
    """Refuses what no scene can be written to, before minutes of work and not after them."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give the name of a folder.")
    place = out
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ResourceError(f"Nothing can be written to {place}; choose another folder.")


@dataclass
class Steps:
    """The steps of one job, in order; what each finds is in the folder at once."""

    job: Job
    photo: Photo
    report: Report
    make_stages: Callable[[Config], Stages]
    stages: Stages | None = None

    def all(self, settings: dict[str, Any]) -> SceneFolder:
        """The figure from left to right, from where an earlier run stopped."""
        folder = kept.find_run(self.job.out, settings, self.job.overwrite)
        if folder is not None and is_finished(folder, self.job.config):
            return folder
        self.load()
        crowd = None if folder is None else kept.load_crowd(folder)
        if folder is None or crowd is None:
            folder, crowd = self.estimate(settings)
        masks = kept.load_masks(folder) or self.segment(folder, crowd)
        view = CrowdView(self.photo.pixels, crowd, masks)
        left = [i for i, person in enumerate(folder.info.people) if person.state != "done"]
        list(self.build(folder, view, left, range(len(view))))
        kept.finish_avatars(folder)
        self.refine(folder, view)
        return folder

    def load(self) -> Stages:
        """The models, loaded when they are first asked for."""
        self.stages = self.stages or self.make_stages(self.job.config)
        return self.stages

    def estimate(self, settings: dict[str, Any]) -> tuple[SceneFolder, Crowd]:
        """Everybody's body and place; nothing is written before somebody is found."""
        started, photo, stages = time.perf_counter(), self.photo, self.load()
        self.report(Progress("people", 0.0))
        focal, source = chosen_focal(photo, self.job.config.photo.focal)
        crowd = stages.people.estimate(photo.pixels, focal, self.report)
        if focal is not None:
            crowd = replace(crowd, focal_source=source)
        kept.check_anybody(crowd, self.job.photo)
        self.report(Progress("people", 1.0, None, len(crowd.people)))
        folder = kept.start_scene(self.job, photo, crowd, stages, settings)
        folder.add_timing("people", time.perf_counter() - started)
        return folder, crowd

    def segment(self, folder: SceneFolder, crowd: Crowd) -> list[PersonMask]:
        """Everybody's masks."""
        started = time.perf_counter()
        self.report(Progress("masks", 0.0, None, len(crowd.people)))
        masks = self.load().segment.segment(self.photo.pixels, crowd, self.report)
        kept.save_masks(folder, masks)
        folder.add_timing("masks", time.perf_counter() - started)
        return masks

    def build(
        self, folder: SceneFolder, view: CrowdView, left: Sequence[int], among: Sequence[int]
    ) -> Iterator[int]:
        """Avatars by LORM or photo_fit of those who are left among some; yields who is kept."""
        report = avatars_among(self.report, among, len(view))
        outcomes = self.load().avatar.reconstruct(view, left, report)
        for index in left:
            begun = time.perf_counter()
            report(Progress("avatars", 0.0, index))
            kept.keep_outcome(folder, view, next(outcomes), self.load().measure, begun)
            report(Progress("avatars", 1.0, index))
            yield index

    def refine(self, folder: SceneFolder, view: CrowdView, chosen: Chosen = None) -> None:
        """The second half for everybody who waits for it, of those chosen."""
        stages, left = self.load(), waiting(folder, self.job.config, chosen)
        if not left or stages.refiner is None:
            return
        self.report(Progress("refine", 0.0))
        run = RefinementRun(folder, view, self.job.config, stages.measure)
        avatars, only = run.start(left)
        for cluster in refine_crowd(stages.refiner, view, avatars, self.report, only):
            run.keep(cluster)
        self.report(Progress("refine", 1.0))


def refine_crowd(
    stage: "CrowdRefinement",
    view: CrowdView,
    avatars: dict[int, Avatar],
    report: Report,
    only: Chosen = None,
) -> Iterator[RefinedCluster]:
    """The second half of the figure; a cluster that fails does not stop the others."""
    for cluster in stage.clusters(view, avatars, report, only):
        with cluster.fails_alone():
            scene = cluster.coarse_scene()
            views = cluster.views_and_normals()
            for number in range(stage.config.distil.rounds):
                images = cluster.refine(scene, views, number)
                cluster.distil(scene, views, images, number)
            cluster.finish(scene)
        yield cluster.result
