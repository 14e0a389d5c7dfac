# SPDX-License-Identifier: Apache-2.0
"""The masks stage around SAM, on drawn answers whose right use is known."""

from dataclasses import replace

import numpy as np
import pytest
from _support.avatar_scene import paint, person_of
from _support.sam_made_up import DrawnNetwork
from crowdgaussian.body import load_body
from crowdgaussian.body.model import pose_body
from crowdgaussian.core.progress import silent
from crowdgaussian.people.types import Crowd, Keypoints
from crowdgaussian.segment.sam.network import NO_POINT
from crowdgaussian.segment.sam.stage import (
    SamSegmenter,
    choose_mask,
    gather_evidence,
    make_prompts,
    share_inside,
)
from crowdgaussian.segment.types import SegmentConfig
from crowdgaussian.splat.normals import render_mesh_depth
from crowdgaussian.synthetic.sample import FOLDER, load_ground_truth
from crowdgaussian_shared.geometry.camera import Camera
from PIL import Image


@pytest.fixture(scope="module")
def body():
    return load_body()


def silhouette(body, parameters, camera):
    posed = pose_body(body, parameters)
    _, face = render_mesh_depth(
        posed.pose_points(posed.rest).astype(np.float32), posed.faces, camera
    )
    return np.asarray(face) >= 0


def seen_person(body, parameters, camera, mask, confidence=0.9):
    """A person with true keypoints, sure wherever they are in the photo."""
    import torch

    with torch.no_grad():
        out = body(
            *(
                torch.as_tensor(np.asarray(v, np.float32))[None]
                for v in (parameters.betas, parameters.pose, parameters.transl, parameters.scale)
            )
        )
        points = body.landmarks(out)[0].numpy()
    flat = (points @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]) @ camera.K.T
    xy = (flat[:, :2] / flat[:, 2:]).astype(np.float32)
    rows, columns = np.nonzero(mask)
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
    keypoints = Keypoints(xy, np.full(33, confidence, np.float32), np.zeros((33, 3), np.float32))
    return replace(person_of(parameters, np.zeros(mask.shape)), keypoints=keypoints, box=box)


@pytest.fixture(scope="module")
def pair(body):
    """Two people, the second half behind the first.  # photo, crowd, whole masks"""
    scene = paint(body, width=320, shirt=0.0, hair=0.0)
    behind = replace(scene.parameters, transl=scene.parameters.transl + np.float32([0.3, 0, -0.8]))
    whole = [silhouette(body, p, scene.camera) for p in (scene.parameters, behind)]
    people = tuple(
        seen_person(body, p, scene.camera, mask)
        for p, mask in zip((scene.parameters, behind), whole)
    )
    return scene.photo, Crowd(people, scene.camera, "default", (True, True)), whole


def blob(shape, *parts):
    mask = np.zeros(shape, bool)
    for rows, columns in parts:
        mask[rows[0] : rows[1], columns[0] : columns[1]] = True
    return mask


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_the_mask_that_holds_the_persons_keypoints_is_chosen():
    shape = (20, 20)
    torso, person = blob(shape, ((8, 12), (8, 12))), blob(shape, ((2, 18), (6, 14)))
    both = blob(shape, ((2, 18), (0, 20)))
    logits = np.where(np.stack([torso, person, both]), 5.0, -5.0)
    own = np.array([[10, 3], [7, 10], [12, 16], [10, 10]], float)
    others = np.array([[2.0, 5], [3, 9]])
    assert choose_mask(logits, np.array([0.9, 0.8, 0.9]), own, others) == 1
    assert choose_mask(logits, np.array([0.9, 0.8, 0.9]), own, np.zeros((0, 2))) == 2
    assert choose_mask(logits, np.array([0.9, 0.8, 0.7]), np.zeros((0, 2)), others) == 0
    assert share_inside(logits[1], np.array([[10, 3], [99, 3.0]]), 0.0) == 0.5


def test_own_points_are_positive_and_neighbours_negative_unless_hidden(pair, body):
    _, crowd, whole = pair
    distances = np.full((2, 2, 33), np.inf, np.float32)
    heights = [200.0, 200.0]
    evidence = gather_evidence(crowd, distances, heights, SegmentConfig())
    prompts = make_prompts(evidence)
    assert prompts.boxes.shape == (2, 4) and prompts.points.shape[:2] == prompts.labels.shape
    first = crowd.people[0].keypoints.xy
    for point, label in zip(prompts.points[0], prompts.labels[0]):
        if label == 1:
            assert np.linalg.norm(first[[11, 12, 23, 24]] - point, axis=1).min() < 1e-3
    assert (prompts.labels[:, :3] == 1).all() and (prompts.labels == 0).any()
    # The second person's left side is behind the first: those points say nothing.
    distances[1, 0, [12, 24]], distances[1, 1, [12, 24]] = 3.0, 3.8
    hidden = gather_evidence(crowd, distances, heights, SegmentConfig())
    second = crowd.people[1].keypoints.xy
    for k in (12, 24):
        for points in (hidden[1].own, hidden[1].positive, hidden[0].negative, hidden[0].others):
            assert not len(points) or np.linalg.norm(points - second[k], axis=1).min() > 1e-3
    lone = Crowd(crowd.people[:1], crowd.camera, "default", (True,))
    alone = make_prompts(gather_evidence(lone, distances[:1, :1], heights, SegmentConfig()))
    assert (alone.labels == 1).all() and alone.points.shape == (1, 3, 2)
    blind = replace(
        lone.people[0],
        keypoints=replace(lone.people[0].keypoints, confidence=np.zeros(33, np.float32)),
    )
    mixed = replace(crowd, people=(blind, crowd.people[1]))
    evidence = gather_evidence(mixed, distances, heights, SegmentConfig())
    assert (make_prompts(evidence).labels[0] != 1).all()
    filled = make_prompts([evidence[1], replace(evidence[0], negative=evidence[0].negative[:1])])
    assert (filled.labels[1, 1:] == NO_POINT).all() and (filled.labels[0] == 1).sum() >= 1


def test_overlaps_go_to_the_nearer_body_and_occlusion_is_told(pair, body):
    photo, crowd, whole = pair
    masks = np.stack([np.stack([mask, mask & False, whole[0] | whole[1]]) for mask in whole])
    network = DrawnNetwork(masks, [[0.95, 0.1, 0.9]] * 2)
    segmenter = SamSegmenter(SegmentConfig(), body, network)
    near, far = segmenter.segment(photo, crowd, silent)
    assert len(network.asked) == 1  # everybody at once
    assert not (near.visible & far.visible).any()
    assert iou(near.visible, whole[0]) > 0.9
    assert iou(far.visible, whole[1] & ~whole[0]) > 0.85
    hidden = 1 - (whole[1] & ~whole[0]).sum() / whole[1].sum()
    assert hidden > 0.2 and abs(far.occlusion - hidden) < 0.06 and near.occlusion < 0.06
    assert iou(far.amodal, whole[1]) > 0.9
    swapped = replace(crowd, people=crowd.people[::-1])
    network.masks = masks[::-1]
    far_first, near_last = segmenter.segment(photo, swapped, silent)
    assert iou(far_first.visible, far.visible) > 0.99
    assert iou(near_last.visible, near.visible) > 0.99


def test_specks_holes_and_what_lies_far_outside_are_cleaned(pair, body):
    photo, crowd, whole = pair
    one = replace(crowd, people=crowd.people[:1])
    drawn = whole[0].copy()
    box = crowd.people[0].box.astype(int)
    middle = (box[:2] + box[2:]) // 2
    drawn[middle[1] - 2 : middle[1] + 2, middle[0] - 2 : middle[0] + 2] = False  # a small hole
    speck = blob(drawn.shape, ((box[1] + 8, box[1] + 12), (box[2] - 8, box[2] - 4)))
    beyond = blob(drawn.shape, ((100, 140), (int(box[2]) + 60, int(box[2]) + 90)))
    network = DrawnNetwork((drawn | speck | beyond)[None, None], [[0.9]])
    (mask,) = SamSegmenter(SegmentConfig(), body, network).segment(photo, one, silent)
    assert iou(mask.visible, whole[0]) > 0.92
    assert not (mask.visible & beyond).any()
    assert not (mask.visible & speck & ~whole[0]).any()
    assert mask.visible[middle[1], middle[0]]


def test_parts_cut_apart_by_an_occluder_all_stay(pair, body):
    photo, crowd, whole = pair
    one = replace(crowd, people=crowd.people[:1])
    box = crowd.people[0].box.astype(int)
    bar = blob(
        whole[0].shape,
        ((int(0.55 * box[1] + 0.45 * box[3]), int(0.45 * box[1] + 0.55 * box[3])), (0, 320)),
    )
    network = DrawnNetwork((whole[0] & ~bar)[None, None], [[0.9]])
    shown = np.where(bar[..., None], np.uint8([20, 160, 40]), photo)
    (mask,) = SamSegmenter(SegmentConfig(), body, network).segment(shown, one, silent)
    rows = np.flatnonzero(mask.visible.any(axis=1))
    assert rows[0] < box[1] + 12 and rows[-1] > box[3] - 12
    assert not (mask.visible & bar)[4:-4].sum() > 0.3 * (whole[0] & bar).sum()


def test_nobody_gives_no_masks(body):
    camera = Camera(np.eye(3), np.eye(4), 40, 30)
    network = DrawnNetwork(np.zeros((0, 1, 40, 40), bool), np.zeros((0, 1)))
    crowd = Crowd((), camera, "default", ())
    assert (
        SamSegmenter(SegmentConfig(), body, network).segment(
            np.zeros((30, 40, 3), np.uint8), crowd, silent
        )
        == []
    )


def test_the_sample_with_true_masks_comes_back(body):
    truth, photo = load_ground_truth(), np.asarray(Image.open(FOLDER / "sample.jpg").convert("RGB"))
    height, width = truth.visible.shape[1:]
    cut = [d - d % 4 for d in (height, width)]
    camera = Camera(truth.camera.K, truth.camera.viewmat, cut[1], cut[0])
    visible = truth.visible[:, : cut[0], : cut[1]]
    people = tuple(
        seen_person(body, person, camera, mask) for person, mask in zip(truth.people, visible)
    )
    crowd = Crowd(people, camera, "default", (True,) * len(people))
    noise = np.stack(
        [np.stack([mask, np.roll(mask, 90, axis=1), visible.any(axis=0)]) for mask in visible]
    )
    network = DrawnNetwork(noise, [[0.8, 0.85, 0.9]] * len(people))
    masks = SamSegmenter(SegmentConfig(), body, network).segment(
        photo[: cut[0], : cut[1]], crowd, silent
    )
    for mask, real, person in zip(masks, visible, truth.people):
        assert iou(mask.visible, real) > 0.93, person.name
        assert abs(mask.occlusion - (1 - person.visible_fraction)) < 0.15, person.name
