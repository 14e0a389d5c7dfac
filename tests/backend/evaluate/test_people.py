# SPDX-License-Identifier: Apache-2.0
"""`crowdgaussian evaluate people` on true bodies, and on ones harmed so that figures are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from _support.annotated import (
    COCO_NAMES,
    LAYOUTS,
    ROWS,
    annotation,
    document,
    evaluated,
    everybody,
    outline,
    written,
)
from crowdgaussian.body import load_body
from crowdgaussian.evaluate.annotations import SIGMAS, decoded, read_annotations
from crowdgaussian.evaluate.matching import Found, figures
from crowdgaussian.evaluate.people import PeopleJob, evaluate_people, found_people
from crowdgaussian.people.types import Crowd
from crowdgaussian.segment.types import CrowdView
from crowdgaussian.synthetic.sample import sample_photo
from crowdgaussian_shared.errors import DamagedFileError
from PIL import Image
from pycocotools import mask as rle


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_truth_scores_perfectly_in_every_layout(tmp_path, truth, perfect, layout):
    report = evaluated(tmp_path, document(truth, LAYOUTS[layout]), perfect)
    row = everybody(report)
    assert row["people"] == row["right"] == row["bodies"] == len(truth.people)
    assert row["recall"] == row["precision"] == row["ap"] == 1.0
    assert row["oks"] > 0.999 and row["mask_iou"] == pytest.approx(1.0)
    assert row["outlines"] == len(truth.people)


def test_bodies_moved_to_nobody_are_a_disaster(tmp_path, truth, perfect):
    """What must show: nobody is found where somebody is."""
    aside = np.array([3.0 * truth.camera.width, 0.0])
    empty = [np.zeros_like(mask) for mask in perfect.masks]
    report = evaluated(
        tmp_path, document(truth), replace(perfect, joints=perfect.joints + aside, masks=empty)
    )
    row = everybody(report)
    assert row["recall"] == row["precision"] == row["oks"] == row["ap"] == row["mask_iou"] == 0.0
    assert row["unmatched"] == row["missed"] == len(truth.people)
    assert "| 0.000 |" in report.markdown()
    pixels = np.asarray(Image.open(tmp_path / "out/people.png").convert("RGB"))
    assert shown(pixels, (255, 70, 220)) > 500 and shown(pixels, (40, 220, 90)) == 0


def test_bodies_without_a_place_are_not_right(tmp_path, truth, perfect):
    """A network that diverges hands on NaN, which pycocotools would take for a match."""
    nowhere = np.full_like(perfect.joints, np.nan)
    row = everybody(evaluated(tmp_path, document(truth), replace(perfect, joints=nowhere)))
    assert row["recall"] == row["precision"] == row["oks"] == row["ap"] == 0.0
    assert row["unmatched"] == len(truth.people)


def test_a_photo_in_which_nobody_is_found(tmp_path, truth):
    nobody = CrowdView(np.zeros((4, 4, 3), np.uint8), Crowd((), truth.camera, "option", ()), [])
    report = evaluated(tmp_path, document(truth), found_people(load_body("open"), nobody))
    row = everybody(report)
    assert row["recall"] == row["oks"] == row["ap"] == row["mask_iou"] == 0.0
    assert row["precision"] is None and row["missed"] == len(truth.people)
    assert report.photos[0].error == ""


def shown(pixels, colour):
    return int((pixels == colour).all(-1).sum())


def test_the_sheet_shows_the_truth_as_right(tmp_path, truth, perfect):
    evaluated(tmp_path, document(truth), perfect)
    pixels = np.asarray(Image.open(tmp_path / "out/people.png").convert("RGB"))
    half = pixels.shape[1] // 2
    assert shown(pixels[:, :half], (40, 220, 90)) > 500  # the marked people
    assert shown(pixels[:, half:], (40, 220, 90)) > 500  # the bodies
    assert shown(pixels, (255, 70, 220)) == shown(pixels, (255, 60, 50)) == 0


def test_left_for_right_is_wrong(tmp_path, truth, perfect):
    """Everybody at the right place, but turned about."""
    other = [i + 1 if i % 2 == 0 else i - 1 for i in range(12)]
    report = evaluated(tmp_path, document(truth), replace(perfect, joints=perfect.joints[:, other]))
    row = everybody(report)
    assert row["right"] < len(truth.people) / 2 and row["unmatched"] == 0
    assert row["wrong"] == row["missed"] == len(truth.people) - row["right"]
    assert row["oks"] < 0.4 and row["mask_iou"] == pytest.approx(1.0)


def test_one_missed_one_doubled_one_shifted(tmp_path, truth, perfect):
    count = len(truth.people)
    box = np.ptp(truth.people[1].joints_px[ROWS], axis=0)
    area = 0.53 * box[0] * box[1]
    off = np.array([math.sqrt(2 * area) * 0.079, 0.0])  # e ** -0.25 for shoulders
    shifted = np.exp(-0.25 * (0.079 / SIGMAS) ** 2).mean()
    joints = np.concatenate([perfect.joints[1:], perfect.joints[2:3]])
    joints[0] += off
    scores, masks = np.full(count, 0.9), [*perfect.masks[1:], perfect.masks[2]]
    row = everybody(evaluated(tmp_path, document(truth), Found(joints, scores, masks)))
    assert (row["right"], row["missed"], row["wrong"]) == (count - 1, 1, 1)
    assert row["recall"] == row["precision"] == pytest.approx((count - 1) / count)
    assert row["oks"] == pytest.approx((count - 2 + shifted) / count, abs=2e-3)
    assert row["mask_iou"] == pytest.approx((count - 1) / count, abs=0.05)


def test_nobody_counts_inside_a_crowd(tmp_path, truth, perfect):
    """A crowd's outline is run lengths of the whole picture; bodies in its box are ignored."""
    content = document(truth)
    whole = content["annotations"][0]
    size = [truth.camera.height, truth.camera.width]
    whole |= {"iscrowd": 1, "segmentation": {"size": size, "counts": [0, size[0] * size[1]]}}
    del whole["keypoints"]
    row = everybody(evaluated(tmp_path, content, perfect))
    count = len(truth.people) - 1
    assert (row["people"], row["right"], row["ignored"]) == (count, count, 1)
    assert row["precision"] == row["ap"] == 1.0 and row["outlines"] == count


def test_people_with_few_joints_are_ignored_but_their_outlines_count(tmp_path, truth, perfect):
    content = document(truth)
    marks = np.array([2] * 4 + [0] * 8)
    few = annotation(1, truth.people[0].joints_px[ROWS], COCO_NAMES, truth.visible[0], marks)
    content["annotations"][0] = few
    row = everybody(evaluated(tmp_path, content, perfect))
    assert (row["people"], row["ignored"]) == (len(truth.people) - 1, 1)
    assert row["outlines"] == len(truth.people)


def test_figures_by_size_and_by_what_is_hidden(tmp_path, truth, perfect):
    content = document(truth)
    half = annotation(
        1, truth.people[0].joints_px[ROWS], COCO_NAMES, truth.visible[0], [1] * 6 + [2] * 6
    )
    some = annotation(
        2, truth.people[1].joints_px[ROWS], COCO_NAMES, truth.visible[1], [1] * 3 + [2] * 9
    )
    content["annotations"][:2] = half, some
    harmed = perfect.joints.copy()
    harmed[0] += 5000
    table = figures(evaluated(tmp_path, content, replace(perfect, joints=harmed)).photos)
    count = len(truth.people)
    assert [table[name]["people"] for name in ("small", "medium", "large")] == [0, 0, count]
    hidden = [row for name, row in table.items() if name.startswith("hidden")]
    assert [row["people"] for row in hidden] == [count - 2, 1, 1]
    assert [row["recall"] for row in hidden] == [1.0, 1.0, 0.0]
    assert hidden[2]["ap"] == 0.0 and hidden[0]["ap"] > 0.8


def test_hidden_is_told_by_outlines_or_boxes_where_joints_do_not(tmp_path, truth):
    """PoseTrack18 marks every labelled joint 1, which says nothing."""
    joints = truth.people[0].joints_px[ROWS]
    low, wide = joints.min(0), np.ptp(joints, axis=0)
    beside = joints + [wide[0] * 0.75, 0]  # a quarter of the box
    content = document(truth) | {
        "annotations": [
            annotation(k, points, COCO_NAMES, marks=1) for k, points in enumerate((joints, beside))
        ]
    }
    data = read_annotations(written(tmp_path, content)[0])
    assert data.hidden(data.photos[0], [None, None]) == pytest.approx([0.25, 0.25], abs=0.02)
    mask = np.zeros((200, 200), bool)
    mask[50:150, 50:150] = True
    covers = np.roll(mask, 50, axis=0)  # half of it
    outlines = [rle.encode(np.asfortranarray(m, np.uint8)) for m in (mask, covers)]
    assert data.hidden(data.photos[0], outlines) == pytest.approx([0.5, 0.5])
    assert low.min() > 0


def test_posetracks_own_ways(tmp_path, truth, perfect):
    """Frames without labels, regions where nobody was annotated, no sizes and missing boxes."""
    content = document(truth, LAYOUTS["posetrack"])
    image, marked = content["images"][0], content["annotations"]
    del image["width"], image["height"], marked[0]["bbox"], marked[2]["segmentation"]
    x, y, wide, high = marked.pop()["bbox"]
    image |= {"is_labeled": True}
    image |= {"ignore_regions_x": [[x, x + wide, x + wide]], "ignore_regions_y": [[y, y, y + high]]}
    content["images"].append({"id": 8, "file_name": "next.jpg", "is_labeled": False})
    report = evaluated(tmp_path, content, perfect)
    row, count = everybody(report), len(truth.people) - 1
    assert len(report.photos) == 1
    assert (row["people"], row["right"], row["ignored"]) == (count, count, 1)
    assert row["precision"] == row["ap"] == 1.0
    image["ignore_regions_y"][0].pop()
    with pytest.raises(DamagedFileError, match="ignore_regions_y.0. must be a list of 3 numbers"):
        read_annotations(written(tmp_path, content)[0])


def test_polygons_and_run_lengths_are_the_same_outline(tmp_path, truth):
    height, width = truth.camera.height, truth.camera.width
    mask = np.zeros((height, width), np.uint8)
    mask[100:300, 200:400] = 1
    first = 200 * height + 100
    runs = [first, 200]
    for _ in range(199):
        runs += [height - 200, 200]
    runs.append(height * width - sum(runs))
    shapes = (
        [[200, 100, 400, 100, 400, 300, 200, 300]],
        {"size": [height, width], "counts": runs},
        outline(mask),
    )
    for shape in shapes:
        content = document(truth)
        content["annotations"][0]["segmentation"] = shape
        person = read_annotations(written(tmp_path, content)[0]).photos[0].people[0]
        drawn = decoded(person.outline.encoded((height, width), 1.0))
        assert (drawn != mask).sum() <= 2 * 200
        small = decoded(person.outline.encoded((height // 2, width // 2), 0.5))
        assert small.sum() == pytest.approx(mask.sum() / 4, rel=0.03)


def test_a_photo_at_another_size_scores_the_same(tmp_path, truth, perfect):
    data, photos = written(tmp_path, document(truth))
    half = Image.open(sample_photo())
    half = half.resize((half.width // 2, half.height // 2))
    half.save(photos / "sample.jpg")
    found = Found(
        perfect.joints / 2,
        perfect.scores,
        [
            np.asarray(Image.fromarray(mask).resize(half.size, Image.Resampling.NEAREST))
            for mask in perfect.masks
        ],
    )
    report = evaluate_people(PeopleJob(data, photos, tmp_path / "out"), find=lambda *_: found)
    row = everybody(report)
    assert row["recall"] == 1.0 and row["oks"] > 0.999 and row["mask_iou"] > 0.95
