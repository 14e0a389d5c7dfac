# SPDX-License-Identifier: Apache-2.0
"""One reconstruction and all its settings, the presets, and changing a setting by its name."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from crowdgaussian_shared.errors import SettingError
from crowdgaussian_shared.protocol.wire import may_client_set
from crowdgaussian_shared.scene.edit import SceneEdits

from ..avatar.types import PhotoFitConfig
from ..completion.config import CompleteConfig
from ..lorm.weights import LormStageConfig
from ..people.types import PeopleConfig
from ..refiner.types import RefineConfig
from ..segment.types import SegmentConfig
from ..weights.local import PROMPTHMR


@dataclass(frozen=True)
class PhotoConfig:
    """How the photo is read."""

    max_side: int = 2048  # longest side of the working size, pixels
    focal: str = ""  # "2100" pixels of the file, or "35mm" equivalent; empty: EXIF or default


@dataclass(frozen=True)
class StageNames:
    """Which implementation does each stage; the names are those of pipeline/stages.py."""

    body: str = "open"
    people: str = "keypoint_fit"
    segment: str = "silhouettes"
    avatar: str = "photo_fit"
    completion: str = "none"
    refiner: str = "none"


@dataclass(frozen=True)
class Config:
    """Everything that decides what comes out for a given photo."""

    preset: str = "open"
    stages: StageNames = field(default_factory=StageNames)
    photo: PhotoConfig = field(default_factory=PhotoConfig)
    people: PeopleConfig = field(default_factory=PeopleConfig)
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    avatar: PhotoFitConfig = field(default_factory=PhotoFitConfig)
    complete: CompleteConfig = field(default_factory=CompleteConfig)  # of photo_fit
    lorm: LormStageConfig = field(default_factory=LormStageConfig)  # for stages.avatar=lorm
    refine: RefineConfig = field(default_factory=RefineConfig)  # of either refiner

    def flat(self) -> dict[str, Any]:
        """{"avatar.gaussians": 32000, ...}: every setting under its full name."""
        return _flatten(asdict(self), "")


@dataclass(frozen=True)
class Job:
    """One photo to reconstruct."""

    photo: Path
    out: Path
    config: Config
    overwrite: bool = False
    photo_name: str = ""  # for display; empty: the name of the file
    edits: SceneEdits | None = None  # corrections of the result
    base: Path | None = None  # a scene folder with some of them or none, to start from


LIMITS = {  # smallest and largest value where zero or infinity make no sense
    "photo.max_side": (64, 16384),
    "people.max_people": (1, 1000),
    "avatar.gaussians": (500, 2_000_000),
    "complete.share": (0.0, 1.0),
    "refine.reach": (0.01, 1000.0),
    "refine.most_people": (1, 100),
    "refine.photo_px": (32, 4096),
    "refine.distil.views": (2, 200),
    "refine.distil.size": (32, 2048),
    "refine.distil.rounds": (1, 20),
    "refine.distil.steps": (1, 5000),
    "refine.distil.photo_share": (0.0, 1.0),
    "refine.distil.ssim_share": (0.0, 1.0),
}
PRESETS = {
    "open": Config(stages=StageNames(completion="open", refiner="small")),
    "open-large": Config(
        "open-large", StageNames("open", "vitpose", "sam", "photo_fit", "open", "small")
    ),
    "paper": Config("paper", StageNames("smplx", "multihmr", "sam", "lorm", refiner="turbo")),
}


def preset(name: str) -> Config:
    """The settings of a preset.

    The paper finds people with PromptHMR: `paper` does where $CROWDGAUSSIAN_PROMPTHMR says how to
    run it, and with Multi-HMR elsewhere.

    Raises:
        SettingError: there is none of that name.
    """
    command = os.environ.get(PROMPTHMR, "")
    if name == "paper" and command:
        config = PRESETS[name]
        people = replace(config.people, command=command, program="prompthmr")
        return replace(config, stages=replace(config.stages, people="command"), people=people)
    if name in PRESETS:
        return PRESETS[name]
    raise SettingError(f"There is no preset '{name}'; use one of: {', '.join(PRESETS)}.")


def with_setting(config: Config, name: str, text: str) -> Config:
    """A copy of the settings with one of them changed, as in with_setting(c, "avatar.seed", "2").

    Raises:
        SettingError: there is no such setting, or the text is not a value for it.
    """
    return _replaced(config, name.split("."), name, text)


def is_local(config: Config, name: str) -> bool:
    """Whether a setting names files or programs of the machine, which no client may choose."""
    return not may_client_set(name, config.flat().get(name))


def configured(name: str, changes: Mapping[str, str]) -> Config:
    """A preset with settings changed by name.

    Raises:
        SettingError: as preset and with_setting.
    """
    config = preset(name)
    for setting, text in changes.items():
        config = with_setting(config, setting, text)
    return config


def _replaced(node: Any, path: list[str], name: str, text: str) -> Any:
    here = {item.name for item in fields(node)} if is_dataclass(node) else set()
    if path[0] not in here:
        raise SettingError(
            f"There is no setting '{name}'; `crowdgaussian settings` lists them all."
        )
    old = getattr(node, path[0])
    if len(path) > 1:
        return replace(node, **{path[0]: _replaced(old, path[1:], name, text)})
    return replace(node, **{path[0]: _value(old, name, text)})


def _value(old: Any, name: str, text: str) -> Any:
    """The text as a value of the old value's type."""
    if isinstance(old, str):
        return text
    words = {"true": True, "false": False}
    try:
        value = words[text.lower()] if isinstance(old, bool) else _number(old, text)
    except (KeyError, ValueError, TypeError) as error:
        kind = type(old).__name__
        raise SettingError(f"'{text}' is no value for {name}, which is of type {kind}.") from error
    low, high = LIMITS.get(name, (0, math.inf))
    if not low <= value <= high:
        raise SettingError(f"{name} is {text}, it must be from {low} to {high}.")
    return value


def _number(old: Any, text: str) -> int | float:
    if not isinstance(old, int | float):
        raise TypeError
    return type(old)(text)


def _flatten(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
