# SPDX-License-Identifier: Apache-2.0
"""scene.json: round trip, and every complaint names the file and the field."""

import json
from dataclasses import replace

import numpy as np
import pytest
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.axes import scene_viewmat
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.scene.json import scene_from_json, scene_to_json
from crowdgaussian_shared.scene.schema import (
    SCENE_VERSION,
    CameraInfo,
    Ground,
    ModelProvenance,
    PersonEntry,
    PhotoInfo,
    SceneInfo,
    SceneWarning,
    hash_bytes,
    hash_file,
)

K = np.array([[800.0, 0, 320], [0, 810, 240], [0, 0, 1]])
OPEN = ModelProvenance("open body", "1", "open_body.npz", "ab" * 32, "CC0-1.0", True, "body")
CLOSED = replace(OPEN, name="SMPL-X", licence="SMPL-X Model License", commercial=False)
PEOPLE = (
    PersonEntry(
        state="done",
        flags=("small", "cut"),
        box=(1.0, 2.0, 30.5, 40.0),
        score=0.9,
        on_ground=False,
        occlusion=0.25,
        gaussians=20_000,
        files={"avatar": "people/000/avatar.npz"},
        quality={"iou": 0.93, "psnr": 27.5},
        refinement="kept",
        refinement_note="The first avatar matches the photo better.",
        warnings=(SceneWarning("height", "Person 0 came out 2.31 m tall."),),
    ),
    PersonEntry(state="failed", error="The fit did not settle."),
    PersonEntry(),
)
INFO = SceneInfo(
    photo=PhotoInfo("photo.jpg", 640, 480, "Größe \u2603.jpg", "cd" * 32),
    camera=CameraInfo(K, scene_viewmat(1.6, 0.1, -0.02), 640, 480, "exif"),
    ground=Ground(0.0, 0.012),
    people=PEOPLE,
    models=(OPEN,),
    settings={"focal": None, "max_people": 6, "refine": True, "fov": 52.5, "preset": "open"},
    previews=("previews/front.png",),
    warnings=(
        SceneWarning("missed", "Somebody was missed.", (10.0, 20.0, 30.0, 40.5)),
        SceneWarning("focal", "The focal length is assumed."),
    ),
    writer="crowdgaussian 0.1.0",
)


def record() -> dict:
    return json.loads(scene_to_json(INFO))


def read(changed: dict) -> SceneInfo:
    return scene_from_json(json.dumps(changed).encode(), "out/scene.json")


def test_round_trip():
    back = scene_from_json(scene_to_json(INFO))
    np.testing.assert_array_equal(back.camera.K, K)
    np.testing.assert_array_equal(back.camera.viewmat, INFO.camera.viewmat)
    camera = back.camera
    assert replace(back, camera=None) == replace(INFO, camera=None)
    assert (camera.width, camera.height, camera.focal_source) == (640, 480, "exif")
    assert scene_to_json(back) == scene_to_json(INFO)


def test_camera_in_and_out():
    camera = Camera(K, np.eye(4), 640, 480)
    back = CameraInfo.from_camera(camera, "option").to_camera()
    assert back.K is camera.K and back.viewmat is camera.viewmat
    assert (back.width, back.height) == (640, 480)


@pytest.mark.parametrize(
    ("models", "allowed"),
    [((OPEN,), True), ((OPEN, CLOSED), False), ((CLOSED,), False), ((), False)],
)
def test_commercial_use_follows_the_models(models, allowed):
    info = replace(INFO, models=models)
    assert info.commercial_use is allowed
    assert json.loads(scene_to_json(info))["commercial_use"] is allowed


def test_commercial_use_is_never_believed():
    changed = record()
    changed["models"][0]["commercial"] = False
    assert changed["commercial_use"] is True
    assert read(changed).commercial_use is False


def test_a_newer_version_says_so_whatever_else_it_holds():
    with pytest.raises(CrowdGaussianError) as caught:
        read({"version": SCENE_VERSION + 1, "crowd": []})
    assert str(caught.value) == (
        f"out/scene.json was written by a newer CrowdGaussian (scene version {SCENE_VERSION + 1}, "
        f"this one reads up to {SCENE_VERSION}); update the add-on or the backend."
    )


def test_unknown_fields_are_ignored():
    changed = record()
    changed["mood"] = "happy"
    changed["people"][0]["hat"] = {"colour": [1, 2]}
    assert read(changed).people == PEOPLE


def test_folders_from_before_refinement():
    changed = record()
    for person in changed["people"]:
        del person["refinement"], person["refinement_note"]
    assert [person.refinement for person in read(changed).people] == [""] * 3


def test_folders_from_before_warnings():
    changed = record()
    for owner in (changed, *changed["people"]):
        del owner["warnings"]
    old = read(changed)
    assert old.warnings == old.people[0].warnings == () and old.checks == []
    assert old == replace(read(record()), camera=old.camera, warnings=(), people=old.people)


def test_checks_are_the_scene_s_and_then_the_people_s_but_not_of_who_failed():
    failed = PersonEntry(state="failed", warnings=(SceneWarning("floating", "They float."),))
    assert replace(INFO, people=(failed, *PEOPLE)).checks == [
        "Somebody was missed.",
        "The focal length is assumed.",
        "Person 0 came out 2.31 m tall.",
    ]


def test_who_is_settled():
    done = PersonEntry(state="done")
    assert done.settled and not PersonEntry(state="masked").settled
    assert replace(done, refinement="kept").settled
    assert not replace(done, refinement="failed").settled, "it is tried again"


def test_no_camera_yet():
    assert scene_from_json(scene_to_json(replace(INFO, camera=None))).camera is None


def spoil(path: str, value) -> dict:
    """A good record with the value at a dotted path replaced, or deleted for `...`."""
    changed = target = record()
    *parents, last = (int(p) if p.isdigit() else p for p in path.split("."))
    for part in parents:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("version", ..., "version is missing."),
        ("version", "1", "version must be a whole number from 1 to 1000000."),
        ("version", True, "version must be a whole number from 1 to 1000000."),
        ("photo", ..., "photo is missing."),
        ("photo", [], "photo must be an object."),
        ("photo.width", 0, "photo.width must be a whole number from 1 to 1000000."),
        ("photo.width", 3.5, "photo.width must be a whole number from 1 to 1000000."),
        ("photo.file", 7, "photo.file must be a text of at most 1000 characters."),
        ("camera.K", [[1, 2, 3]], "camera.K must be a 3x3 list of numbers."),
        ("camera.K.1", [0, "1", 2], "camera.K must be a 3x3 list of numbers."),
        ("camera.K.1.1", 1e999, "Infinity"),
        ("camera.K.0.0", -5, "camera.K must be a pinhole matrix with positive focal lengths"),
        ("camera.viewmat.3", [0, 0, 0, 2], "camera.viewmat must be a rigid motion"),
        ("camera.viewmat.0.0", 3.0, "camera.viewmat must be a rigid motion"),
        ("camera.focal_source", "guess", "camera.focal_source must be one of option"),
        ("ground.height", None, "ground.height must be a number."),
        ("ground.spread", -1, "ground.spread must be a number of at least 0."),
        ("people", {}, "people must be a list of at most 1000 entries."),
        ("people.2", "Bob", "people[2] must be an object."),
        ("people.0.state", "asleep", "people[0].state must be one of queued, fitted, masked, done"),
        ("people.0.state", ["done"], "people[0].state must be one of queued"),
        ("people.2.occlusion", 1.5, "people[2].occlusion must be a number from 0 to 1."),
        ("people.2.occlusion", 10**400, "people[2].occlusion must be a number from 0 to 1."),
        ("people.2.on_ground", 1, "people[2].on_ground must be true or false."),
        ("people.0.box", [1, 2, 3], "people[0].box must be a list of 4 numbers."),
        ("people.0.flags", "cut", "people[0].flags must be a list"),
        ("people.0.flags.1", 3, "people[0].flags[1] must be a text"),
        ("people.0.quality.iou", "high", "people[0].quality.iou must be a number."),
        ("people.1.error", ..., "people[1].error is missing."),
        ("people.0.refinement", "better", "people[0].refinement must be one of , refined, kept"),
        ("warnings.0.sentence", 3, "warnings[0].sentence must be a text"),
        ("warnings.0.box", [1, 2], "warnings[0].box must be a list of 4 numbers."),
        ("people.0.warnings", {}, "people[0].warnings must be a list"),
        ("people.0.refinement_note", 3, "people[0].refinement_note must be a text"),
        ("models.0.commercial", "yes", "models[0].commercial must be true or false."),
        ("models.0.licence", ..., "models[0].licence is missing."),
        ("settings.focal", [1], "settings.focal must be a text, a number, true, false or null."),
    ],
)
def test_complaints_name_file_and_field(path, value, sentence):
    with pytest.raises(CrowdGaussianError) as caught:
        read(spoil(path, value))
    assert str(caught.value).startswith("out/scene.json")
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../up.png", "people/../../x", "C:\\x.png", "c:x", "a\\..\\b", "", ".", "a\0b",
     "\\\\host\\x"],
)  # fmt: skip
def test_paths_stay_in_the_folder(path):
    for place in ("photo.file", "people.0.files.avatar", "previews.0"):
        with pytest.raises(CrowdGaussianError, match="must be a relative path inside"):
            read(spoil(place, path))


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b"nonsense", b"\xff\xfe{}", b"[" * 100_000, b'{"version": NaN}',
     b'"text"', b"null", scene_to_json(INFO)[:-20]],
)  # fmt: skip
def test_damaged_json_is_one_sentence(data):
    with pytest.raises(CrowdGaussianError, match=r"^scene\.json is damaged") as caught:
        scene_from_json(data)
    assert "\n" not in str(caught.value)


def test_what_could_not_be_read_back_is_not_written():
    with pytest.raises(CrowdGaussianError, match=r"people\[0\].occlusion must be"):
        scene_to_json(replace(INFO, people=(PersonEntry(occlusion=2.0),)))
    with pytest.raises(CrowdGaussianError, match="cannot be written"):
        scene_to_json(replace(INFO, ground=Ground(float("nan"))))
    with pytest.raises(CrowdGaussianError, match="cannot be written"):
        scene_to_json(replace(INFO, settings={"x": object()}))


def test_a_file_name_that_is_no_text_does_not_stop_the_work():
    photo = replace(INFO.photo, name="caf\udce9.jpg")
    assert scene_from_json(scene_to_json(replace(INFO, photo=photo))).photo.name == "caf?.jpg"


def test_numbers_beyond_floats_are_refused_everywhere():
    text = scene_to_json(INFO).replace(b"52.5", b"1e999")
    with pytest.raises(CrowdGaussianError, match="settings.fov must be a number"):
        scene_from_json(text)


def test_numpy_numbers_are_written_as_numbers():
    entry = PersonEntry(occlusion=np.float32(0.5), quality={"iou": np.float64(0.9)})
    back = scene_from_json(scene_to_json(replace(INFO, people=(entry,))))
    assert back.people[0].occlusion == 0.5 and back.people[0].quality == {"iou": 0.9}


def test_hashes_agree(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a") == hash_bytes(b"abc") and len(hash_bytes(b"")) == 64
    with pytest.raises(CrowdGaussianError, match="does not exist"):
        hash_file(tmp_path / "b")
