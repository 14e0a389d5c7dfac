# SPDX-License-Identifier: Apache-2.0
"""The registry: which class stands behind each stage name, imported only when chosen."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from crowdgaussian_shared.errors import CrowdGaussianError

from .avatar.types import AvatarBuilder
from .config import Config
from .people.types import PeopleEstimator
from .segment.types import Segmenter
from .weights import CATALOGUE, WeightFile

if TYPE_CHECKING:
    from .lorm.files import UsedFile

REGISTRY = {
    "people": {"keypoint_fit": ".people.keypoint_fit:KeypointFit"},
    "segment": {"silhouettes": ".segment.segmenter:SilhouetteSegmenter"},
    "avatar": {"photo_fit": ".avatar.photo_fit:PhotoFit",
               "lorm": ".lorm.reconstructor:LormReconstructor"},
}
OWN_SETTINGS = {"lorm"}  # stages whose part of the settings has their own name, not their kind's


@dataclass(frozen=True)
class Stages:
    """The implementations one run uses."""

    body: Any  # body.BodyModel
    people: PeopleEstimator
    segment: Segmenter
    avatar: AvatarBuilder
    measure: Callable[..., dict[str, float]]  # as avatar.quality.measure


def build_stages(config: Config) -> Stages:
    """Loads the body model and makes each stage with its part of the settings.

    Raises:
        CrowdGaussianError: a stage name is unknown or a model file is missing.
    """
    from .avatar.quality import measure
    from .body.load import load_body

    body = load_body(config.stages.body)
    stages = {kind: load_stage(kind, config, body) for kind in REGISTRY}
    return Stages(body=body, measure=measure, **stages)


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
    module, cls = known[name].split(":")
    settings = getattr(config, name if name in OWN_SETTINGS else kind)
    return getattr(import_module(module, __package__), cls)(settings, body)


def files_for(config: Config) -> list["WeightFile | UsedFile"]:
    """Every model file that the stages of these settings read."""
    names = config.stages
    chosen = (names.body, names.people, names.segment, names.avatar)
    files = [file for name in chosen for file in CATALOGUE.get(name, ())]
    if names.avatar == "lorm":
        from .lorm.files import used_files

        files += used_files(config.lorm)
    return files
