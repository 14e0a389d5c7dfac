# SPDX-License-Identifier: Apache-2.0
"""The registry: which class stands behind each stage name, imported only when chosen."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from crowdgaussian_shared.errors import CrowdGaussianError

from ..avatar.types import AvatarBuilder
from ..people.types import PeopleEstimator
from ..segment.types import Segmenter
from ..weights import CATALOGUE, WeightFile
from ..weights.local import Need, UsedFile, locate, used_file
from .config import Config

REGISTRY = {
    "people": {
        "keypoint_fit": ".people.mediapipe:KeypointFit",
        "vitpose": ".people.vitpose.stage:VitPoseFit",
        "multihmr": ".people.multihmr.stage:MultiHmr",
        "command": ".people.external.stage:CommandPeople",
        "results": ".people.external.stage:ResultPeople",
    },
    "segment": {
        "silhouettes": ".segment.silhouettes:SilhouetteSegmenter",
        "sam": ".segment.sam.stage:SamSegmenter",
    },
    "avatar": {"photo_fit": ".avatar.photo_fit:PhotoFit", "lorm": ".lorm.stage:LormReconstructor"},
}
FILES = {  # the network files of stages that read the user's, by their part of the settings
    "vitpose": ("people", ".people.config:vitpose_files"),
    "multihmr": ("people", ".people.config:multihmr_files"),
    "command": ("people", ".people.config:other_program"),
    "results": ("people", ".people.config:other_program"),
    "sam": ("segment", ".segment.sam.stage:sam_files"),
    "lorm": ("lorm", ".lorm.weights:used_files"),
    "small": ("refine", ".refiner.weights:small_files"),
    "turbo": ("refine", ".refiner.weights:turbo_files"),
}
REFINERS = {"small": ".refiner.stage:small_refinement", "turbo": ".refiner.stage:turbo_refinement"}
OWN_SETTINGS = {"lorm"}  # stages whose part of the settings has their own name, not their kind's
SMPLX = Need("body", "smplx", "", ("smplx",), "open")


@dataclass(frozen=True)
class Stages:
    """The implementations one run uses."""

    body: Any  # body.BodyModel
    people: PeopleEstimator
    segment: Segmenter
    avatar: AvatarBuilder
    measure: Callable[..., dict[str, float]]  # as avatar.quality.measure
    people_with: Callable[[Config], PeopleEstimator] | None = None  # with other settings
    refiner: Any | None = None  # refiner.crowd.CrowdRefinement; None: the avatars stay as they are


def build_stages(config: Config) -> Stages:
    """Loads the body model and makes each stage with its part of the settings.

    Raises:
        CrowdGaussianError: a stage name is unknown or a model file is missing.
    """
    from ..avatar.quality import measure
    from ..body.load import load_body

    refiner = load_refiner(config)
    body = load_body(config.stages.body, _body_path(config))
    stages = {kind: load_stage(kind, config, body) for kind in REGISTRY}
    return Stages(
        body=body,
        measure=measure,
        **stages,
        people_with=lambda other: load_stage("people", other, body),
        refiner=refiner,
    )


def load_stage(kind: str, config: Config, body: Any) -> Any:
    """One stage by the name the settings give it.

    Args:
        kind: "people", "segment" or "avatar".
        config: all settings.
        body: the body model the stage works with.

    Raises:
        CrowdGaussianError: the stage name is unknown.
    """
    known, name = REGISTRY[kind], getattr(config.stages, kind)
    if name not in known:
        raise CrowdGaussianError(
            f"There is no {kind} stage '{name}'; use one of: {', '.join(known)}."
        )
    settings = getattr(config, name if name in OWN_SETTINGS else kind)
    return _imported(known[name])(settings, body)


def load_refiner(config: Config) -> Any | None:
    """The refinement stage that the settings name; None for "none".

    Raises:
        CrowdGaussianError: the name is unknown, or its weights are missing or damaged.
    """
    name = config.stages.refiner
    if name == "none":
        return None
    if name not in REFINERS:
        raise CrowdGaussianError(
            f"There is no refiner stage '{name}'; use one of: none, {', '.join(REFINERS)}."
        )
    return _imported(REFINERS[name])(config.refine)


def _imported(place: str) -> Any:
    """What ".module:name" of this package stands for."""
    module, name = place.split(":")
    return getattr(import_module(module, "crowdgaussian"), name)


def _body_path(config: Config) -> Path | None:
    """The user's own SMPL-X file where these settings want it."""
    return locate("", SMPLX) if config.stages.body == "smplx" else None


def files_for(config: Config) -> list[WeightFile | UsedFile]:
    """Every model file that the stages of these settings read."""
    names = config.stages
    chosen = (names.body, names.people, names.segment, names.avatar, names.refiner)
    files = [file for name in chosen for file in CATALOGUE.get(name, ())]
    for name in chosen:
        if name in FILES:
            part, place = FILES[name]
            files += _imported(place)(getattr(config, part))
    if names.body == "smplx":
        files.append(used_file("", SMPLX))
    return files
