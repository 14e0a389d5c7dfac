# SPDX-License-Identifier: Apache-2.0
"""OKS, pairs and AP: by hand, and against pycocotools run as its own users do."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from crowdgaussian.evaluate.annotations import SIGMAS, Annotation
from crowdgaussian.evaluate.matching import (
    FoundBody,
    PhotoResult,
    TruePerson,
    average_precision,
    match,
    similarity,
)
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def test_similarity_is_cocos_by_hand():
    truth = np.zeros((1, 12, 3))
    truth[0, :, :2] = np.random.default_rng(0).uniform(0, 100, (12, 2))
    truth[0, :, 2] = 2
    area, joints = np.array([5000.0]), truth[:, :, :2].copy()
    assert similarity(joints, truth, area) == pytest.approx(1.0)
    sigma = 0.079  # a shoulder so far off that its share is 1 / e
    joints[0, 0, 0] += math.sqrt(2 * 5000) * 2 * sigma
    assert similarity(joints, truth, area)[0, 0] == pytest.approx((11 + math.exp(-1)) / 12)
    truth[0, 0, 2] = 0  # not labelled: it does not count
    assert similarity(joints, truth, area)[0, 0] == pytest.approx(1.0)


def test_the_most_alike_pair_comes_first_and_everybody_once():
    assert match(np.array([[0.9, 0.8], [0.85, 0.2]])) == {0: 0}
    assert match(np.array([[0.6, 0.9], [0.7, 0.8]])) == {0: 1, 1: 0}
    assert match(np.array([[0.49]])) == {} and match(np.array([[0.5]])) == {0: 0}
    assert match(np.zeros((0, 3))) == {} and match(np.zeros((3, 0))) == {}


def person(joints, hidden=0.0, oks=0.0, crowd=False):
    box = np.concatenate([joints.min(0), np.ptp(joints, axis=0)])
    marks = np.zeros((12, 1)) if crowd else np.full((12, 1), 2.0)
    return TruePerson(Annotation(np.concatenate([joints, marks], 1), box, crowd=crowd), hidden, oks)


def test_ap_by_hand():
    shape = np.random.default_rng(1).uniform(0, 100, (12, 2))
    here, there = person(shape), person(shape + 300)
    far = FoundBody(shape + 900, 0.95, "unmatched")
    good = FoundBody(shape, 0.9, "right", 1.0)

    def ap(*bodies):
        return average_precision([PhotoResult("a", [here, there], list(bodies))], [(0, 1e10)])[0]

    half = 51 / 101  # COCO samples recall at 101 places, of which 51 lie up to a half
    assert ap(good, FoundBody(shape + 300, 0.8, "right", 1.0))["ap"] == pytest.approx(1.0)
    assert ap(good)["ap"] == pytest.approx(half)
    assert ap(good, replace(good, score=0.8, verdict="wrong"))["ap"] == pytest.approx(half)
    assert ap(far, good)["ap"] == pytest.approx(half / 2)  # the surest body is false
    assert ap(far)["ap"] == 0.0 and ap()["ap"] == 0.0
    assert average_precision([PhotoResult("a", [], [far])], [(0, 1e10)])[0]["ap"] is None


# Agreement with pycocotools, run as its own users do


def random_photos(rng):
    photos = []
    for _ in range(6):
        people, bodies = [], []
        for k in range(int(rng.integers(1, 6))):
            size = rng.choice([20.0, 60.0, 250.0])
            joints = rng.uniform(0, size, (12, 2)) + 400 * k
            people.append(person(joints, crowd=k == 4))
            noise = rng.normal(0, 0.02 * size * rng.uniform(0, 4), (12, 2))
            if rng.random() < 0.8:
                bodies.append(FoundBody(joints + noise, float(rng.random()), "right"))
        bodies.append(FoundBody(rng.uniform(2000, 2100, (12, 2)), float(rng.random()), "wrong"))
        photos.append(PhotoResult("x.jpg", people, bodies))
    return photos


def pycocotools_run(folder, photos):
    """COCOeval on files, with the twelve sigmas."""
    truth, results = [], []
    for image, photo in enumerate(photos, 1):
        for each in photo.people:
            mark = each.truth
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "keypoints": mark.joints.ravel().tolist(),
                    "num_keypoints": int((mark.joints[:, 2] > 0).sum()),
                    "bbox": mark.box.tolist(),
                    "area": mark.area,
                    "iscrowd": int(mark.crowd),
                }
            )
        results += [
            {
                "image_id": image,
                "category_id": 1,
                "score": body.score,
                "keypoints": np.concatenate([body.joints, np.ones((12, 1))], 1).ravel().tolist(),
            }
            for body in photo.bodies
        ]
    images = [{"id": k + 1} for k in range(len(photos))]
    categories = [{"id": 1, "name": "person"}]
    whole = {"images": images, "annotations": truth, "categories": categories}
    (folder / "gt.json").write_text(json.dumps(whole))
    (folder / "dt.json").write_text(json.dumps(results))
    gt = COCO(str(folder / "gt.json"))
    judge = COCOeval(gt, gt.loadRes(str(folder / "dt.json")), "keypoints")
    judge.params.kpt_oks_sigmas = SIGMAS
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge


def test_ap_and_oks_are_pycocotools_own(tmp_path):
    photos = random_photos(np.random.default_rng(3))
    judge = pycocotools_run(tmp_path, photos)
    ranges = [(0, 1e10), (32**2, 96**2), (96**2, 1e10)]
    ours = average_precision(photos, ranges)
    stats = judge.stats  # AP, AP 0.5, AP 0.75, medium, large, ...
    assert 0.1 < stats[0] < 0.9
    assert [ours[0][name] for name in ("ap", "ap50", "ap75")] == pytest.approx(list(stats[:3]))
    assert [row["ap"] for row in ours[1:]] == pytest.approx(list(stats[3:5]))
    for image, photo in enumerate(photos, 1):
        counted = [each.truth for each in photo.people if not each.truth.crowd]
        surest = sorted(photo.bodies, key=lambda body: -body.score)
        oks = similarity(
            np.array([body.joints for body in surest]),
            np.array([mark.joints for mark in counted]),
            np.array([mark.area for mark in counted]),
        )
        assert oks == pytest.approx(judge.ious[image, 1][:, : len(counted)])
