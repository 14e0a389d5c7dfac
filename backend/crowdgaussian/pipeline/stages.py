# SPDX-License-Identifier: Apache-2.0
"""The table of all stages; what stands behind a name is imported only when it is chosen."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

from crowdgaussian_shared.errors import DamagedFileError, MissingFileError, SettingError
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.scene.schema import SceneWarning

from ..avatar.types import AvatarBuilder
from ..people.types import PeopleEstimator
from ..segment.types import CrowdView, Segmenter
from ..weights import CATALOGUE, RemoteWeights, WeightFile
from ..weights.catalogue import Source
from ..weights.local import UsedFile, absent
from .config import PRESETS, Config

if TYPE_CHECKING:
    from ..body.model import BodyModel
    from ..refiner.stage import CrowdRefinement


@dataclass(frozen=True)
class StageSpec:
    """One stage: its name, how it is made, and which files it reads."""

    name: str  # as the settings give it, such as stages.people=vitpose
    kind: str  # "body", "people", "segment", "avatar", "completion" or "refiner"
    config_field: str  # the part of Config with its settings; empty: it has none
    build: str  # ".module:function" of this package: settings, body model -> the stage
    files: str = ""  # ".module:function": settings -> the user's files that it reads
    help: str = ""  # one line for a user
    completed: bool = False  # build takes the completion stage too
    needs: str = ""  # ".module:function": settings -> what it wants of the catalogue


STAGES = (
    StageSpec(
        "open",
        "body",
        "",
        ".body.load:open_model",
        "",
        "the body model that ships, made from open data",
    ),
    StageSpec(
        "smplx",
        "body",
        "",
        ".body.load:smplx_model",
        ".body.load:smplx_files",
        "SMPL-X from the user's own file",
        needs=".weights.local:smplx_needs",
    ),
    StageSpec(
        "keypoint_fit",
        "people",
        "people",
        ".people.mediapipe:KeypointFit",
        "",
        "MediaPipe's landmarks, and a body fitted to them",
    ),
    StageSpec(
        "vitpose",
        "people",
        "people",
        ".people.vitpose:VitPoseFit",
        ".people.types:vitpose_files",
        "ViTPose's keypoints, and a body fitted to them",
        needs=".people.types:vitpose_needs",
    ),
    StageSpec(
        "multihmr",
        "people",
        "people",
        ".people.multihmr.stage:MultiHmr",
        ".people.types:multihmr_files",
        "Multi-HMR, which regresses SMPL-X",
        needs=".people.types:multihmr_needs",
    ),
    StageSpec(
        "command",
        "people",
        "people",
        ".people.external.stage:CommandPeople",
        ".people.types:other_program",
        "a program of the user, run on the photo",
    ),
    StageSpec(
        "results",
        "people",
        "people",
        ".people.external.stage:ResultPeople",
        ".people.types:other_program",
        "results that another program wrote earlier",
    ),
    StageSpec(
        "silhouettes",
        "segment",
        "segment",
        ".segment.silhouettes:SilhouetteSegmenter",
        "",
        "the landmark detector's silhouettes, refined at their edges",
    ),
    StageSpec(
        "sam",
        "segment",
        "segment",
        ".segment.sam.stage:SamSegmenter",
        ".segment.types:sam_files",
        "Segment Anything, asked for each person",
        needs=".segment.types:sam_needs",
    ),
    StageSpec(
        "photo_fit",
        "avatar",
        "avatar",
        ".avatar.photo_fit:PhotoFit",
        "",
        "Gaussians on the body's surface, fitted to the photo",
        completed=True,
    ),
    StageSpec(
        "lorm",
        "avatar",
        "lorm",
        ".lorm.stage:LormReconstructor",
        ".lorm.weights:used_files",
        "LORM, or LHM without its adapters",
        needs=".lorm.weights:lorm_needs",
    ),
    StageSpec(
        "open",
        "completion",
        "complete",
        ".completion.stage:open_completion",
        ".completion.config:used_files",
        "the small network that ships, beside the rules of photo_fit",
    ),
    StageSpec(
        "small",
        "refiner",
        "refine",
        ".refiner.stage:small_refinement",
        ".refiner.types:small_files",
        "the small network that ships",
    ),
    StageSpec(
        "turbo",
        "refiner",
        "refine",
        ".refiner.stage:turbo_refinement",
        ".refiner.types:turbo_files",
        "one-step diffusion, trained from SD-Turbo",
        needs=".refiner.types:turbo_needs",
    ),
)
log = logging.getLogger(__name__)
Measure = Callable[[Avatar, CrowdView, int], dict[str, float]]  # as avatar.quality.measure
_NONE = "none"  # of the kinds that may be left out
_FILE_ORDER = (
    "people",
    "segment",
    "avatar",
    "completion",
    "refiner",
    "body",
)  # as scene.json lists them


@dataclass(frozen=True)
class Stages:
    """The implementations one run uses."""

    body: "BodyModel"
    people: PeopleEstimator
    segment: Segmenter
    avatar: AvatarBuilder
    measure: Measure
    people_with: Callable[[Config], PeopleEstimator] | None = None  # with other settings
    refiner: "CrowdRefinement | None" = None  # None: the avatars stay as they are
    warnings: tuple[SceneWarning, ...] = ()  # of stages that work without what they should have


def names_of(kind: str) -> list[str]:
    """The names of all stages of one kind."""
    return [spec.name for spec in STAGES if spec.kind == kind]


def build_stages(config: Config) -> Stages:
    """Load the body model and make each stage with its part of the settings.

    Raises:
        SettingError: a stage name is unknown.
        MissingFileError: a model file is missing.
        DamagedFileError: it is damaged or another one.
    """
    from ..avatar.quality import measure

    check_networks(config)
    refiner = load_refiner(config)
    body = load_stage("body", config, None)
    avatar, warnings = _avatar_stage(config, body)
    return Stages(
        body,
        load_stage("people", config, body),
        load_stage("segment", config, body),
        avatar,
        measure,
        lambda other: load_stage("people", other, body),
        refiner,
        warnings,
    )


@overload
def load_stage(kind: Literal["body"], config: Config, body: None) -> "BodyModel": ...
@overload
def load_stage(
    kind: Literal["people"], config: Config, body: "BodyModel | None"
) -> PeopleEstimator: ...
@overload
def load_stage(kind: Literal["segment"], config: Config, body: "BodyModel | None") -> Segmenter: ...
@overload
def load_stage(
    kind: Literal["avatar"], config: Config, body: "BodyModel | None"
) -> AvatarBuilder: ...
@overload
def load_stage(
    kind: Literal["refiner"], config: Config, body: "BodyModel | None"
) -> "CrowdRefinement": ...
def load_stage(kind: str, config: Config, body: "BodyModel | None") -> Any:
    """Make one stage by the name the settings give it.

    Args:
        kind: "body", "people", "segment", "avatar" or "refiner".
        config: all settings.
        body: the body model the stage works with; None for "body" itself.

    Raises:
        SettingError: the stage name is unknown.
    """
    if kind == "avatar":
        return _avatar_stage(config, body)[0]
    return _built(_chosen(kind, config), config, body)


def _avatar_stage(
    config: Config, body: "BodyModel | None"
) -> tuple[AvatarBuilder, tuple[SceneWarning, ...]]:
    """The avatar stage, and that its completion is left out where that is so."""
    spec = _chosen("avatar", config)
    if not spec.completed or config.stages.completion == _NONE:
        return _built(spec, config, body), ()
    completion, warnings = None, tuple[SceneWarning, ...]()
    try:
        completion = _built(_chosen("completion", config), config, body)
    except (MissingFileError, DamagedFileError) as error:
        sentence = f"Unseen colours are filled by rules alone: {error}"
        log.warning(sentence)
        warnings = (SceneWarning("completion", sentence),)
    return _imported(spec.build)(_settings(spec, config), body, completion), warnings


def load_refiner(config: Config) -> "CrowdRefinement | None":
    """Make the refinement stage that the settings name; None for "none".

    Raises:
        CrowdGaussianError: the name is unknown, or its weights are missing or damaged.
    """
    if config.stages.refiner == _NONE:
        return None
    return _built(_chosen("refiner", config), config, None)


def _chosen(kind: str, config: Config) -> StageSpec:
    """The stage of this kind that the settings name."""
    name = getattr(config.stages, kind)
    for spec in STAGES:
        if (spec.kind, spec.name) == (kind, name):
            return spec
    if kind == "body":
        raise SettingError(
            f"There is no body model '{name}'; choose one of {', '.join(names_of(kind))}."
        )
    known = [*([_NONE] if kind in ("completion", "refiner") else []), *names_of(kind)]
    raise SettingError(f"There is no {kind} stage '{name}'; use one of: {', '.join(known)}.")


def _built(spec: StageSpec, config: Config, body: "BodyModel | None") -> Any:
    try:
        return _imported(spec.build)(_settings(spec, config), body)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if not spec.needs or package in ("", "crowdgaussian"):
            raise
        raise MissingFileError(
            f"The {spec.kind} stage '{spec.name}' needs the package {package}, which is not "
            "installed; run `pip install 'crowdgaussian[networks]'`."
        ) from error


def _settings(spec: StageSpec, config: Config) -> Any:
    return getattr(config, spec.config_field) if spec.config_field else None


def _imported(place: str) -> Any:
    """What ".module:name" of this package stands for."""
    module, name = place.split(":")
    return getattr(import_module(module, "crowdgaussian"), name)


def networks_of(config: Config) -> list[RemoteWeights]:
    """The entries of the catalogue that these settings work with, here or still to be fetched."""
    flat, found = config.flat(), []
    for kind in _FILE_ORDER:
        for spec in STAGES:
            if (spec.kind, spec.name) == (kind, getattr(config.stages, kind)) and spec.needs:
                for need in _imported(spec.needs)(_settings(spec, config)):
                    entry = need.chosen(flat[need.setting] if need.setting else "")
                    found += [entry] if entry else []
    return found


def check_networks(config: Config) -> None:
    """Names every network that is missing at once; of a single one its own stage says more.

    Raises:
        MissingFileError: several are missing.
    """
    lacking = absent(networks_of(config))
    if len(lacking) < 2:
        return
    known = PRESETS.get(config.preset)
    whole = known is not None and known.stages == config.stages
    what = f"--preset {config.preset}" if whole else " ".join(entry.name for entry in lacking)
    hand = [entry.name for entry in lacking if entry.source is Source.MANUAL]
    rest = f", which also says how to get {' and '.join(hand)}" if hand else ""
    named = ", ".join(f"{entry.name} ({entry.size_in_words}, {entry.licence})" for entry in lacking)
    raise MissingFileError(  # the command first: a message may be cut to its first 500 letters
        f"{len(lacking)} networks are not on this machine: run `crowdgaussian weights fetch {what}`"
        f"{rest}, or use the preset open, which needs none; it lacks {named}."
    )


def files_for(config: Config) -> list[WeightFile | UsedFile]:
    """Every model file that the stages of these settings read.

    Raises:
        CrowdGaussianError: some are missing.
    """
    check_networks(config)
    names = config.stages
    chosen = (names.body, names.people, names.segment, names.avatar, names.refiner)
    files: list[WeightFile | UsedFile] = [
        file for name in chosen for file in CATALOGUE.get(name, ())
    ]
    for kind in _FILE_ORDER:
        for spec in STAGES:
            if (spec.kind, spec.name) == (kind, getattr(names, kind)) and spec.files:
                files += _imported(spec.files)(_settings(spec, config))
    return files
