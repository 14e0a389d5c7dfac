# SPDX-License-Identifier: Apache-2.0
"""The refinement of whole crowds against the truth, coarse / refined 2D / distilled 3D.

Each crowd is made up, photographed, and built from that photo alone. Its avatars are refined with
each refiner and, to see what the refiner itself adds, with one that changes nothing. All of them
are compared with the truth in views that the refinement has not seen. Clean avatars of the same
people go through the refinement too: whoever was good must stay so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import SettingError
from crowdgaussian_shared.geometry.avatar import Avatar
from torch import Tensor

from ...avatar.types import AvatarBuilder
from ...core.metrics import Lpips, load_lpips
from ...core.progress import Progress, Report, setting, silent
from ...pipeline.reconstruct import refine_crowd
from ...refiner.stage import CrowdRefinement
from ...refiner.types import SMALL_VIEW, RefineConfig, Refiner
from ...segment.types import CrowdView
from ...synthetic.photo import scene_photo
from ...synthetic.scenes import CrowdScene, DrawActor, compose
from ...weights import local_path
from ..report import Picture, Views, write_picture
from .people import (
    HeldOut,
    People,
    built_people,
    clean_people,
    damaged_people,
    held_out,
    near,
    photo_psnr,
    refined_in_2d,
    score_views,
    shown,
)
from .report import COARSE, ClusterRow, CrowdReport, IdentityRow, SceneRow, costed

UNREFINED = "no refiner"
_OWN = 1  # last word of the seeds; training data, which has two words, never draws these crowds
_SHOWN = 5  # views in the pictures


@dataclass(frozen=True)
class CrowdsJob:
    """What to evaluate."""

    out: Path
    crowds: int = 5
    people: int = setting(6, "of a crowd")
    seed: int = setting(0, "of the crowds")
    views: int = setting(12, "held out, of each crowd and of each person alone")
    size: int = setting(320, "of a view, pixels")
    points: int = 12_000  # Gaussians of a clean person
    stage_1: str = "photo_fit"
    refine: RefineConfig = field(default_factory=RefineConfig)
    made_up: bool = True  # False: of scanned people

    def __post_init__(self) -> None:
        if min(self.crowds, self.people, self.views) < 1 or not 32 <= self.size <= 2048:
            raise SettingError(
                "Evaluate at least one crowd of one person in one view, of 32 to 2048 pixels."
            )


@dataclass(frozen=True)
class Trial:
    """One crowd: the truth, its photo, and its avatars before refinement."""

    scene: CrowdScene
    taken: CrowdView
    coarse: People
    truth: HeldOut


class Unchanged:
    """The refiner that changes nothing."""

    trained_at = SMALL_VIEW

    def refine(self, images: Tensor, normals: Tensor) -> Tensor:
        """As Refiner."""
        return images


def evaluate_crowds(
    job: CrowdsJob,
    draw_actor: DrawActor,
    builder: AvatarBuilder | None,
    refiners: dict[str, Refiner],
    tell: Report = silent,
) -> CrowdReport:
    """Runs the evaluation; report.md, results.csv and pictures/ grow crowd by crowd.

    Args:
        job: what to do.
        draw_actor: makes a person.
        builder: the appearance stage; None: damage.
        refiners: by name, on the best device.
        tell: told about every step.
    """
    lpips, missing = load_lpips(local_path("vgg16"), local_path("lpips-vgg-heads"))
    report = CrowdReport(_facts(job), missing)
    for index in range(job.crowds):

        def say(done: float, words: str, index: int = index) -> None:
            tell(
                Progress(
                    "crowds",
                    (index + done) / job.crowds,
                    index,
                    job.crowds,
                    f"crowd {index + 1} of {job.crowds}: {words}",
                )
            )

        trial = make_trial(job, index, draw_actor, builder, say)
        report.errors += [f"crowd {index}: {error}" for error in trial.coarse.errors]
        if trial.coarse.avatars:
            _Evaluation(job, index, trial, lpips, report, say).run(refiners)
        report.write(job.out)
    tell(Progress("crowds", 1.0))
    return report


def make_trial(
    job: CrowdsJob,
    index: int,
    draw_actor: DrawActor,
    builder: AvatarBuilder | None,
    say: Callable[[float, str], None] = lambda done, words: None,
) -> Trial:
    """A crowd that no training has seen, the same in every run."""
    rng = np.random.default_rng([job.seed, index, _OWN])
    say(0.0, "making it up")
    scene = compose(draw_actor, (job.people, job.people), rng)
    taken = scene_photo(scene, rng)
    if builder is None:
        coarse = damaged_people(scene, job.points, rng)
    else:
        coarse = built_people(
            builder,
            taken,
            lambda step: say(
                0.3 * ((step.person or 0) + step.fraction) / job.people, "building avatars"
            ),
        )
    return Trial(scene, taken, coarse, held_out(scene, job.views, job.size))


class _Evaluation:
    """One crowd's rows."""

    def __init__(
        self,
        job: CrowdsJob,
        index: int,
        trial: Trial,
        lpips: Lpips | None,
        report: CrowdReport,
        say: Callable[[float, str], None],
    ) -> None:
        self.job, self.index, self.trial, self.lpips = job, index, trial, lpips
        self.report, self.say = report, say
        self.before = shown(trial.coarse.avatars.values(), trial.truth.cameras)
        self.mask = near(trial.truth.views.alpha, self.before.alpha)
        self.lines: list[Picture] = []

    def run(self, refiners: dict[str, Refiner]) -> None:
        coarse, truth = self.trial.coarse.avatars, self.trial.truth
        self._draw("the truth", truth.views)
        self._row(COARSE, self.before, photo_psnr(coarse.values(), self.trial.taken))
        clean = clean_people(self.trial.scene, self.job.points, self.job.seed).avatars
        self._draw("clean", shown(clean.values(), truth.cameras))
        apart = 0.7 / (2 + 2 * len(refiners))
        for number, (name, refiner) in enumerate({UNREFINED: Unchanged(), **refiners}.items()):
            start = 0.3 + 2 * number * apart
            if name in refiners:
                flat = refined_in_2d(self.before, coarse.values(), truth.cameras, refiner)
                self._row(f"{name}, 2D", flat, float("nan"))
            self._distil(name, refiner, coarse, (start, start + apart))
            self._identity(name, refiner, clean, (start + apart, start + 2 * apart))
        self.lines.sort(key=lambda line: line.title.startswith("clean"))  # they come last
        write_picture(
            self.job.out / f"pictures/crowd_{self.index:03d}.png", self.lines, self.job.size
        )

    def _distil(
        self, name: str, refiner: Refiner, avatars: dict[int, Avatar], span: tuple[float, float]
    ) -> None:
        after = self._refine(name, refiner, avatars, span)
        views = shown(after.values(), self.trial.truth.cameras)
        self._row(f"{name}, 3D", views, photo_psnr(after.values(), self.trial.taken))

    def _identity(
        self, name: str, refiner: Refiner, clean: dict[int, Avatar], span: tuple[float, float]
    ) -> None:
        after = self._refine(f"{name}, clean", refiner, clean, span)
        for person in clean:
            truth = held_out(self.trial.scene, self.job.views, self.job.size, person)
            both = [shown([avatars[person]], truth.cameras) for avatars in (clean, after)]
            mask = near(truth.views.alpha, both[0].alpha)
            scores = [score_views(views, truth.views, mask, None) for views in both]
            self.report.identity.append(
                IdentityRow(
                    name,
                    self.index,
                    person,
                    *((each["masked_psnr"], each["inside_psnr"]) for each in scores),
                )
            )
        self._draw(f"clean, {name}", shown(after.values(), self.trial.truth.cameras))

    def _refine(
        self, name: str, refiner: Refiner, avatars: dict[int, Avatar], span: tuple[float, float]
    ) -> dict[int, Avatar]:
        """The avatars with those of the clusters that could be refined replaced."""
        after = dict(avatars)
        work = refine_crowd(
            CrowdRefinement(self.job.refine, refiner),
            self.trial.taken,
            avatars,
            lambda step: self.say(
                span[0] + (span[1] - span[0]) * step.fraction, f"{name}, {step.message}"
            ),
        )
        for cluster, cost in costed(work):
            self.report.clusters.append(
                ClusterRow(name, self.index, cluster.people, cost, cluster.error)
            )
            if not cluster.error:
                after |= dict(zip(cluster.people, cluster.avatars, strict=True))
        return after

    def _row(self, method: str, views: Views, photo: float) -> None:
        values = score_views(views, self.trial.truth.views, self.mask, self.lpips)
        self.report.rows.append(SceneRow(self.index, method, values | {"photo": photo}))
        self._draw(
            f"{method}   PSNR {values['psnr']:.2f}, masked {values['masked_psnr']:.2f} dB", views
        )

    def _draw(self, title: str, views: Views) -> None:
        chosen = np.unique(np.linspace(0, len(views.colour) - 1, _SHOWN).astype(int))
        images = [views.colour[int(i)].mul(255).round().byte().numpy() for i in chosen]
        self.lines.append(Picture(title, images))


def _facts(job: CrowdsJob) -> list[str]:
    distil = job.refine.distil
    return [
        f"{job.crowds} crowds of {job.people} {'made-up' if job.made_up else 'scanned'} people, "
        f"composed as in no training data, seed {job.seed}; avatars before refinement: "
        f"{job.stage_1}",
        f"{job.views} views of {job.size} x {job.size} pixels of each on white, from a hemisphere, "
        "none of them a view of the refinement",
        "masked: where truth or coarse avatars show somebody, and 3 pixels around; inside: where "
        "the truth does, and 2 pixels around too, so that outlines do not count",
        f"refinement: {distil.rounds} rounds of {distil.steps} steps on {distil.views} views of "
        f"{distil.size} pixels (0: as the refiner was trained), "
        f"at most {job.refine.most_people} people together",
        f"2D: the refiner on the coarse held-out views; 3D: after distillation; {UNREFINED}: the "
        "same distillation without a refiner, so that the photo alone teaches",
    ]
