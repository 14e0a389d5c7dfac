# SPDX-License-Identifier: Apache-2.0
"""A sample's ground truth agrees with its body model, its camera and its picture."""

import numpy as np
import pytest
import torch
from _support.running import SAMPLE, SECOND_SAMPLE
from crowdgaussian.body import load_body
from crowdgaussian.synthetic.sample import load_ground_truth
from PIL import Image
from scipy.ndimage import distance_transform_edt

SOLE = 0.030  # metres; the body's bare feet stand on shoe soles at most this high


@pytest.fixture(scope="module", params=(SAMPLE.parent, SECOND_SAMPLE), ids=lambda f: f.name)
def folder(request):
    """The bundled sample, and the second one."""
    return request.param


@pytest.fixture(scope="module")
def truth(folder):
    return load_ground_truth(folder)


@pytest.fixture(scope="module")
def posed(truth):
    """The open body with the stored parameters, everybody at once."""

    def stack(name):
        return torch.tensor(np.stack([getattr(p, name) for p in truth.people]), dtype=torch.float32)

    with torch.no_grad():
        return load_body("open")(stack("betas"), stack("pose"), stack("transl"), stack("scale"))


def project(points: np.ndarray, camera) -> tuple[np.ndarray, np.ndarray]:
    """Scene points to pixels and depths.  # [..., 3] -> [..., 2], [...]"""
    seen = points @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    flat = seen @ camera.K.T
    return flat[..., :2] / flat[..., 2:], seen[..., 2]


def test_photo_and_masks_have_the_camera_size(folder, truth):
    size = (truth.camera.width, truth.camera.height)
    with Image.open(folder / "sample.jpg") as photo:
        assert photo.size == size
        assert photo.format == "JPEG"
    assert truth.visible.shape == truth.amodal.shape == (len(truth.people), *size[::-1])


def test_five_to_six_different_people(truth):
    assert 5 <= len(truth.people) <= 6
    betas = np.stack([p.betas for p in truth.people])
    apart = np.linalg.norm(betas[:, None] - betas[None], axis=-1)
    assert apart[~np.eye(len(betas), dtype=bool)].min() > 0.5


def test_posed_body_gives_the_stored_joints(truth, posed):
    stored = np.stack([p.joints for p in truth.people])
    assert np.abs(posed.joints.numpy() - stored).max() < 1e-4


def test_projection_gives_the_stored_pixels_and_depths(truth, posed):
    pixels, depths = project(posed.joints.double().numpy(), truth.camera)
    stored = np.stack([p.joints_px for p in truth.people])
    assert np.linalg.norm(pixels - stored, axis=-1).max() < 0.5
    assert np.abs(depths[:, 0] - [p.depth for p in truth.people]).max() < 1e-3


def test_everybody_stands_on_the_floor(posed):
    lowest = posed.vertices[..., 1].amin(dim=1).numpy()
    assert (lowest > 0).all()
    assert (lowest < SOLE).all()


def test_bare_body_lies_inside_the_amodal_mask(truth, posed):
    pixels, _ = project(posed.vertices.double().numpy(), truth.camera)
    height, width = truth.amodal.shape[1:]
    for amodal, own in zip(truth.amodal, pixels, strict=True):
        column, row = np.floor(own).astype(int).T
        assert column.min() >= 0 and column.max() < width and row.min() >= 0 and row.max() < height
        assert distance_transform_edt(~amodal)[row, column].max() <= 2.0


def test_masks_are_disjoint_and_inside_the_amodal_ones(truth):
    assert truth.visible.sum(axis=0).max() == 1
    for visible, amodal in zip(truth.visible, truth.amodal, strict=True):
        assert (visible & ~amodal).sum() < 0.02 * visible.sum()


def test_people_overlap_but_stay_visible(folder, truth):
    fractions = np.array([p.visible_fraction for p in truth.people])
    measured = [v.sum() / a.sum() for v, a in zip(truth.visible, truth.amodal, strict=True)]
    assert np.abs(fractions - measured).max() < 1e-3
    assert fractions.min() > 0.55
    assert (fractions < 0.98).sum() >= (2 if folder == SAMPLE.parent else 1)


def test_masks_lie_on_what_the_photo_shows(folder, truth):
    """Colours just inside a person's outline differ from those just outside, for most pixels."""
    photo = np.asarray(Image.open(folder / "sample.jpg").convert("RGB"), dtype=float)
    for mask in truth.visible:
        edge = mask[:, 4:-4] & ~mask[:, :-8]  # inside here, outside eight pixels to the left
        row, column = np.nonzero(edge)
        step = np.abs(photo[row, column + 6] - photo[row, column - 2]).max(axis=-1)
        assert np.median(step) > 20
