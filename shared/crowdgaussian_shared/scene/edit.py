# SPDX-License-Identifier: Apache-2.0
"""What a user corrects in a finished scene: poses, who is left out, people who were overlooked.

Edits are a list of steps, each applied to the result of those before it, so that a further
correction computes nothing twice. Together with the photo and the settings of the run they say all
that is needed to make the corrected scene from nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from ..formats.atomic import read_bytes
from ..formats.json_fields import Field, parse_json
from ..geometry.skeleton import JOINT_NAMES
from .schema import MAX_PEOPLE, MAX_PIXELS

EDIT_LIMIT = 48_000  # characters of the JSON text, which goes into one message
DIGITS = 6  # behind the point: a micrometre, a microradian
_ANGLE = 100.0  # radians
_FAR = 10_000.0  # metres
_STEPS = 1000
_FILE = 1 << 20  # bytes of a file that a user wrote, with spaces
EDIT_KEY = "edit"  # in a scene's settings: the text of the edits that are in it
Box = tuple[float, float, float, float]
# Of the face detector's box: how far somebody who stands reaches to each side, above and below. The
# search looks for people in the same range (backend people/detect/residual.py).
_ASIDE, _ABOVE, _BELOW = 2.5, 0.5, 8.5


@dataclass(frozen=True, eq=False)
class PoseEdit:
    """The pose and place of one person, for the avatar they have.

    The pelvis comes to lie at avatar.rest_joints[0] + transl.
    """

    pose: np.ndarray  # [55, 3] axis-angle, radians, SMPL-X convention; pose[0] in the scene frame
    transl: np.ndarray  # [3] metres, scene frame


@dataclass(frozen=True)
class SceneEdit:
    """One step. Boxes are looked into first; whoever is in them is counted from the end on."""

    corrected: Mapping[int, PoseEdit] = field(default_factory=dict)  # by index in scene.json
    excluded: tuple[int, ...] = ()  # left out from here on
    included: tuple[int, ...] = ()  # brought back, or tried again
    boxes: tuple[Box, ...] = ()  # x0 y0 x1 y1 around people to add, pixels of the scene's photo

    def touched(self, people: int) -> list[int]:
        """Who is built anew, where there were so many people before."""
        new = range(people, people + len(self.boxes))
        return sorted({*self.corrected, *self.included, *new} - {*self.excluded})


def box_below_face(face: Box) -> Box:
    """Around the whole person whose face a warning names, for SceneEdit.boxes.

    Args:
        face: x0 y0 x1 y1, as SceneWarning.box has it.

    Returns:
        x0 y0 x1 y1 in the same pixels, rounded to a tenth; it may reach beyond the photo.
    """
    x0, y0, x1, y1 = face
    size, x = max(x1 - x0, y1 - y0), (x0 + x1) / 2
    left, right = x - _ASIDE * size, x + _ASIDE * size
    top, bottom = y0 - _ABOVE * size, y1 + _BELOW * size
    return round(left, 1), round(top, 1), round(right, 1), round(bottom, 1)


@dataclass(frozen=True)
class SceneEdits:
    """All steps, oldest first."""

    steps: tuple[SceneEdit, ...]

    def to_json(self) -> str:
        """The text that from_json reads; the same edits give the same text.

        Raises:
            InputError: it is longer than a message may carry.
        """
        text = self._text()
        if len(text) > EDIT_LIMIT:
            raise InputError(
                f"The corrections make a text of {len(text)} characters and a message takes "
                f"{EDIT_LIMIT}; correct fewer people at a time."
            )
        return text

    @classmethod
    def from_json(cls, text: str, source: str = "The edit") -> "SceneEdits":
        """Reads and checks every field.

        Raises:
            DamagedFileError: names the field that is wrong.
        """
        root = parse_json(text.encode(errors="replace"), source)
        steps = root.child("edits")
        found = tuple(_step(step) for step in steps.items(_STEPS))
        if not found:
            steps.fail("a list of at least one step")
        return cls(found)

    @classmethod
    def read(cls, path: str | Path) -> "SceneEdits":
        """The corrections in a file.

        Raises:
            CrowdGaussianError: it cannot be read, or names the field that is wrong.
        """
        return cls.from_json(read_bytes(path, _FILE).decode(errors="replace"), str(path))

    def first(self, count: int) -> str:
        """The text of the first so many steps; empty for none."""
        return SceneEdits(self.steps[:count])._text() if count else ""

    def then(self, step: SceneEdit) -> "SceneEdits":
        """With one more step; where that is too long for a message, everything in one step."""
        longer = SceneEdits((*self.steps, step))
        return longer if len(longer._text()) <= EDIT_LIMIT else longer.merged()

    def merged(self) -> "SceneEdits":
        """One step with the same people in the same poses."""
        corrected: dict[int, PoseEdit] = {}
        out: dict[int, bool] = {}
        boxes: list[Box] = []
        for step in self.steps:
            corrected |= step.corrected
            out |= dict.fromkeys(step.excluded, True)
            out |= dict.fromkeys(step.included, False)
            boxes += step.boxes
        excluded = tuple(sorted(index for index, gone in out.items() if gone))
        included = tuple(sorted(index for index, gone in out.items() if not gone))
        kept = {index: pose for index, pose in corrected.items() if index not in excluded}
        return SceneEdits((SceneEdit(kept, excluded, included, tuple(boxes)),))

    def _text(self) -> str:
        record = {"edits": [_plain(step) for step in self.steps]}
        return json.dumps(record, separators=(",", ":"), allow_nan=False)


def edits_in(settings: Mapping[str, object]) -> tuple[SceneEdit, ...]:
    """The steps that a scene with these settings has.

    Raises:
        DamagedFileError: they are damaged.
    """
    text = settings.get(EDIT_KEY, "")
    return SceneEdits.from_json(str(text), "scene.json").steps if text else ()


def _plain(step: SceneEdit) -> dict[str, object]:
    corrected = {
        str(index): {"pose": _numbers(edit.pose), "transl": _numbers(edit.transl)}
        for index, edit in sorted(step.corrected.items())
    }
    parts: dict[str, object] = {
        "corrected": corrected,
        "excluded": sorted(step.excluded),
        "included": sorted(step.included),
        "boxes": [_numbers(box) for box in step.boxes],
    }
    return {name: part for name, part in parts.items() if part}


def _numbers(values: ArrayLike) -> list[float | int]:
    rounded = (round(float(value), DIGITS) for value in np.ravel(values))
    return [int(value) if value.is_integer() else value for value in rounded]


def _step(step: Field) -> SceneEdit:
    corrected = {}
    for name, entry in step.child("corrected").members() if step.has("corrected") else ():
        if not name.isdecimal() or int(name) >= MAX_PEOPLE:
            entry.fail("under the number of a person")
        corrected[int(name)] = _pose(entry)
    boxes = tuple(_box(box) for box in _list(step, "boxes"))
    excluded, included = _people(step, "excluded"), _people(step, "included")
    twice = {*excluded} & {*included, *corrected}
    if twice:
        step.fail(f"without person {min(twice)} in excluded as well as in corrected or included")
    if not (corrected or excluded or included or boxes):
        step.fail("a step that changes something")
    return SceneEdit(corrected, excluded, included, boxes)


def _pose(entry: Field) -> PoseEdit:
    joints = len(JOINT_NAMES)
    pose, transl = entry.child("pose"), entry.child("transl")
    turns, place = pose.vector(3 * joints), transl.vector(3)
    if max(map(abs, turns)) > _ANGLE:
        pose.fail(f"{3 * joints} angles of at most {_ANGLE:g} radians")
    if max(map(abs, place)) > _FAR:
        transl.fail(f"within {_FAR:g} metres")
    return PoseEdit(np.array(turns).reshape(joints, 3), np.array(place))


def _box(entry: Field) -> Box:
    x0, y0, x1, y1 = box = entry.vector(4)
    if not (x0 < x1 and y0 < y1 and max(map(abs, box)) <= MAX_PIXELS):
        entry.fail("x0, y0, x1, y1 with x0 < x1 and y0 < y1")
    return x0, y0, x1, y1


def _people(step: Field, name: str) -> tuple[int, ...]:
    return tuple(sorted({item.whole(0, MAX_PEOPLE - 1) for item in _list(step, name)}))


def _list(step: Field, name: str) -> list[Field]:
    return step.child(name).items(MAX_PEOPLE) if step.has(name) else []
