# SPDX-License-Identifier: Apache-2.0
"""scene.json: SceneInfo to JSON bytes, and back with every field checked."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from ..errors import DamagedFileError, InputError
from ..formats.json_fields import Field, parse_json
from .schema import (
    FOCAL_SOURCES,
    MAX_PEOPLE,
    MAX_PIXELS,
    PERSON_STATES,
    REFINEMENTS,
    SCENE_VERSION,
    CameraInfo,
    Ground,
    ModelProvenance,
    PersonEntry,
    PhotoInfo,
    SceneInfo,
    SceneWarning,
    check_relative,
)


def scene_to_json(info: SceneInfo) -> bytes:
    """Pretty JSON, UTF-8.

    Raises:
        InputError: the info would not be accepted back.
    """
    record = asdict(info)
    record = {"version": record.pop("version"), "commercial_use": info.commercial_use, **record}
    try:
        text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise InputError(f"scene.json cannot be written: {error}.") from error
    data = text.encode("utf-8", errors="replace")  # file names may hold bytes that are no text
    scene_from_json(data)
    return data


def scene_from_json(data: bytes, source: str = "scene.json") -> SceneInfo:
    """Read and check scene.json; unknown fields are ignored, commercial_use is computed anew.

    Raises:
        DamagedFileError: names the file and the field, or says that the file is newer.
    """
    root = parse_json(data, source)
    version = root.child("version").whole(1, 1_000_000)
    if version > SCENE_VERSION:
        raise DamagedFileError(
            f"{source} was written by a newer CrowdGaussian (scene version {version}, this one "
            f"reads up to {SCENE_VERSION}); update the add-on or the backend."
        )
    return SceneInfo(
        photo=_photo(root.child("photo")),
        camera=_camera(root.child("camera")) if root.has("camera") else None,
        ground=_ground(root.child("ground")),
        body_model=root.child("body_model").text(200),
        preset=root.child("preset").text(200),
        people=tuple(_person(person) for person in root.child("people").items(MAX_PEOPLE)),
        models=tuple(_model(model) for model in root.child("models").items(1000)),
        settings={name: _setting(value) for name, value in root.child("settings").members()},
        previews=tuple(_path(item) for item in root.child("previews").items(1000)),
        warnings=_warnings(root),
        writer=root.child("writer").text(200),
        version=version,
    )


def _photo(photo: Field) -> PhotoInfo:
    return PhotoInfo(
        file=_path(photo.child("file")),
        width=photo.child("width").whole(1, MAX_PIXELS),
        height=photo.child("height").whole(1, MAX_PIXELS),
        name=photo.child("name").text(),
        blake2b=photo.child("blake2b").text(128),
    )


def _camera(camera: Field) -> CameraInfo:
    intrinsics, viewmat = camera.child("K"), camera.child("viewmat")
    K = intrinsics.matrix(3, 3)
    if K[0, 0] <= 0 or K[1, 1] <= 0 or (K[2] != [0, 0, 1]).any():
        intrinsics.fail("a pinhole matrix with positive focal lengths and last row 0 0 1")
    pose = viewmat.matrix(4, 4)
    turn = pose[:3, :3]
    rigid = np.abs(turn @ turn.T - np.eye(3)).max() < 1e-4 and np.linalg.det(turn) > 0
    if not rigid or (pose[3] != [0, 0, 0, 1]).any():
        viewmat.fail("a rigid motion with last row 0 0 0 1")
    return CameraInfo(
        K=K,
        viewmat=pose,
        width=camera.child("width").whole(1, MAX_PIXELS),
        height=camera.child("height").whole(1, MAX_PIXELS),
        focal_source=camera.child("focal_source").choice(FOCAL_SOURCES),
        focal_error=camera.child("focal_error").number(low=0) if camera.has("focal_error") else 0.0,
    )


def _ground(ground: Field) -> Ground:
    errors = {
        name: ground.child(name).number(low=0) if ground.has(name) else 0.0
        for name in ("pitch_error", "height_error")
    }  # folders before these fields
    return Ground(
        height=ground.child("height").number(),
        spread=ground.child("spread").number(low=0),
        standing=ground.child("standing").whole(0, MAX_PEOPLE) if ground.has("standing") else 0,
        **errors,
    )


def _person(person: Field) -> PersonEntry:
    files = person.child("files").members()
    return PersonEntry(
        state=person.child("state").choice(PERSON_STATES),
        error=person.child("error").text(),
        flags=tuple(flag.text(100) for flag in person.child("flags").items(100)),
        box=_box(person.child("box")) if person.has("box") else None,
        score=person.child("score").number(0, 1),
        on_ground=person.child("on_ground").flag(),
        occlusion=person.child("occlusion").number(0, 1),
        gaussians=person.child("gaussians").whole(0, 1_000_000_000),
        files={name: _path(path) for name, path in files},
        quality=_numbers(person.child("quality")),
        refinement=(
            person.child("refinement").choice(REFINEMENTS) if person.has("refinement") else ""
        ),  # folders before it, as the next
        refinement_note=(
            person.child("refinement_note").text() if person.has("refinement_note") else ""
        ),
        warnings=_warnings(person),
    )


def _warnings(owner: Field) -> tuple[SceneWarning, ...]:
    """Of a scene or a person; none in folders from before them."""
    listed = owner.child("warnings").items(MAX_PEOPLE) if owner.has("warnings") else []
    return tuple(
        SceneWarning(
            code=one.child("code").text(100),
            sentence=one.child("sentence").text(),
            box=_box(one.child("box")) if one.has("box") else None,
        )
        for one in listed
    )


def _box(box: Field) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box.vector(4)
    return x0, y0, x1, y1


def _model(model: Field) -> ModelProvenance:
    texts = {
        name: model.child(name).text(1000)
        for name in ("name", "version", "file", "blake2b", "licence", "stage")
    }
    return ModelProvenance(commercial=model.child("commercial").flag(), **texts)


def _numbers(mapping: Field) -> dict[str, float]:
    return {name: value.number() for name, value in mapping.members()}


def _setting(setting: Field) -> str | float | int | bool | None:
    if not isinstance(setting.value, str | int | float | bool | None):
        setting.fail("a text, a number, true, false or null")
    if isinstance(setting.value, float):
        setting.number()
    return setting.value


def _path(path: Field) -> str:
    return check_relative(path.text(1000), f"{path.source}: {path.path}")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no place in JSON")
