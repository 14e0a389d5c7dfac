# SPDX-License-Identifier: Apache-2.0
"""The registry: which class stands behind each stage name, imported only when chosen."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from crowdgaussian_shared.errors import CrowdGaussianError

from .avatar.types import AvatarBuilder
from .config import Config
from .people.types import PeopleEstimator
from .segment.types import Segmenter

REGISTRY = {
    "people": {"keypoint_fit": ".people.keypoint_fit:KeypointFit"},
    "segment": {"silhouettes": ".segment.segmenter:SilhouetteSegmenter"},
    "avatar": {"photo_fit": ".avatar.photo_fit:PhotoFit"},
}


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

    classes = {kind: _load(kind, getattr(config.stages, kind)) for kind in REGISTRY}
    body = load_body(config.stages.body)
    return Stages(
        body=body,
        people=classes["people"](config.people, body),
        segment=classes["segment"](config.segment, body),
        avatar=classes["avatar"](config.avatar, body),
        measure=measure,
    )


def _load(kind: str, name: str) -> type:
    known = REGISTRY[kind]
    if name not in known:
        raise CrowdGaussianError(
            f"There is no {kind} stage '{name}'; use one of: {', '.join(known)}."
        )
    module, cls = known[name].split(":")
    return getattr(import_module(module, __package__), cls)
