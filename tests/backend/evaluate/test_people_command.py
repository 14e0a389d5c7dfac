# SPDX-License-Identifier: Apache-2.0
"""`crowdgaussian evaluate people` as a command: photos that fail, stopped runs, bad input."""

import json
import sys

import numpy as np
import pytest
from _support.annotated import document, everybody, written
from crowdgaussian.cli.main import main
from crowdgaussian.evaluate.people import PeopleJob, evaluate_people
from crowdgaussian_shared.errors import Cancelled, ResourceError


def three_photos(truth):
    content = document(truth)
    first = content["images"][0]
    content["images"] = [first | {"id": k, "file_name": f"{k}.jpg"} for k in range(3)]
    content["annotations"] = [
        each | {"image_id": k} for k in range(3) for each in content["annotations"]
    ]
    return content


def test_what_fails_is_a_line_and_stops_nobody(tmp_path, truth, perfect):
    data, photos = written(tmp_path, three_photos(truth), ("0.jpg", "2.jpg"))

    def find(photo, report):
        if photo.path.name == "0.jpg":
            raise ResourceError("The people command ended with code 3: no luck.")
        return perfect

    report = evaluate_people(PeopleJob(data, photos, tmp_path / "out"), find=find)
    count = len(truth.people)
    row = everybody(report)
    assert (row["people"], row["right"]) == (2 * count, count)
    text = report.markdown()
    assert "- 0.jpg: The people command ended with code 3: no luck." in text
    assert "1.jpg: there is no such file" in text and "| 1.jpg | left out |" in text
    assert "| 2.jpg | 6 | 6 |" in text
    entries = json.loads((tmp_path / "out/people.json").read_text())["photos"]
    assert [entry["left_out"] for entry in entries] == [False, True, False]


def test_a_photo_of_another_shape_is_left_out(tmp_path, truth, perfect):
    content = three_photos(truth)
    content["images"][1]["width"] //= 2
    data, photos = written(tmp_path, content, ("0.jpg", "1.jpg"))
    job = PeopleJob(data, photos, tmp_path / "out", limit=2)
    report = evaluate_people(job, find=lambda *_: perfect)
    assert [photo.left_out for photo in report.photos] == [False, True]
    assert "the annotations are for" in report.photos[1].error
    assert everybody(report)["recall"] == 1.0


def test_a_stopped_run_leaves_what_is_done(tmp_path, truth, perfect):
    data, photos = written(tmp_path, three_photos(truth), ("0.jpg", "1.jpg", "2.jpg"))

    def stop(step):
        if step.message == "1.jpg":
            raise Cancelled

    with pytest.raises(Cancelled):
        evaluate_people(PeopleJob(data, photos, tmp_path / "out"), stop, lambda *_: perfect)
    entries = json.loads((tmp_path / "out/people.json").read_text())["photos"]
    assert [entry["file"] for entry in entries] == ["0.jpg"]


def run(*arguments):
    return main(["evaluate", "people", *map(str, arguments)])


@pytest.mark.slow
def test_the_command_on_the_sample(tmp_path, truth, capsys):
    """Both stages for real, with few steps and the quick network: the sample is easy enough.

    Whom the search finds is asked elsewhere; here everybody is pointed at.
    """
    sides = [np.r_[p.joints_px.min(axis=0), p.joints_px.max(axis=0)] for p in truth.people]
    boxes = ";".join(",".join(f"{side:.0f}" for side in box) for box in sides)
    changes = (
        f"people.boxes={boxes}",
        "people.landmarks=full",
        "people.hands=false",
        "people.pose_steps=40",
        "people.ground_steps=20",
        "segment.grabcut_iterations=1",
    )
    options = [word for change in changes for word in ("--set", change)]
    out = tmp_path / "out"
    assert run(*written(tmp_path, document(truth)), "--out", out, "--limit", 1, *options) == 0
    text = capsys.readouterr().out
    assert "1 of 1 photos of data.json; people: keypoint_fit" in text
    assert str(out / "people.json") in text and str(out / "people.png") in text
    told = json.loads((out / "people.json").read_text())
    assert told["settings"]["people.pose_steps"] == 40
    row = told["figures"]["all"]
    assert row["right"] >= len(truth.people) - 1 and row["oks"] > 0.6 and row["mask_iou"] > 0.8


def without_keypoints(content):
    del content["annotations"][2]["keypoints"]


def without_layout(content):
    del content["categories"][0]["keypoints"]


def with_other_layout(content):
    content["categories"][0]["keypoints"][5] = "left_front_paw"


def with_short_keypoints(content):
    content["annotations"][0]["keypoints"].pop()


def with_torn_outline(content):
    content["annotations"][1]["segmentation"]["counts"] = "04a"


def with_odd_polygon(content):
    content["annotations"][1]["segmentation"] = [[1, 2, 3, 4, 5, 6, 7]]


def without_images(content):
    del content["images"]


def with_nobody(content):
    content["annotations"] = []


def with_other_photos(content):
    content["images"][0]["file_name"] = "elsewhere.jpg"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (without_keypoints, "annotations[2].keypoints is missing"),
        (without_layout, "names no keypoints in its categories"),
        (with_other_layout, "unknown layout, without left_shoulder"),
        (with_short_keypoints, "annotations[0].keypoints must be a list of 51 numbers"),
        (with_torn_outline, "annotations[1].segmentation.counts must be run lengths of"),
        (with_odd_polygon, "annotations[1].segmentation[0] must be a polygon"),
        (without_images, "images is missing"),
        (with_nobody, "has nobody with 5 labelled joints"),
        (with_other_photos, "holds none of the 1 photos that data.json names, such as elsewhere"),
    ],
)
def test_bad_data_is_one_sentence(tmp_path, truth, capsys, harm, said):
    content = document(truth)
    harm(content)
    assert run(*written(tmp_path, content), "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err.strip()
    assert said in error and error.count("\n") == 0 and error.endswith(".")
    assert not (tmp_path / "out").exists()


def test_bad_files_and_options_are_one_sentence(tmp_path, truth, capsys):
    data, photos = written(tmp_path, "{ not JSON")
    for arguments, said in (
        ((data, photos), "is damaged, it is not JSON"),
        ((tmp_path / "no.json", photos), "there is no such file"),
        ((data, photos, "--limit", 0), "at least one photo"),
        ((data, photos, "--set", "stages.people=oracle"), ""),
    ):
        assert run(*arguments, "-o", tmp_path / "out") == 2
        error = capsys.readouterr().err.strip()
        assert said in error and error.count("\n") == 0
    data, photos = written(tmp_path, document(truth))
    assert run(data, tmp_path / "nowhere", "-o", tmp_path / "out") == 2
    assert "is no folder" in capsys.readouterr().err
    assert run(data, photos, "-o", tmp_path / "out", "--set", "stages.people=oracle") == 2
    assert "no people stage 'oracle'" in capsys.readouterr().err


def test_without_pycocotools_the_extra_is_named(tmp_path, truth, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("crowdgaussian.evaluate.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert run(*written(tmp_path, document(truth))) == 2
    assert 'pip install "crowdgaussian[evaluate]"' in capsys.readouterr().err
