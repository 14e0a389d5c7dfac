# SPDX-License-Identifier: Apache-2.0
"""HuGe100K's layout, written as its public viewer reads it, and pickles that want more."""

import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from crowdgaussian.body import load_body
from crowdgaussian.lorm.model.query_points import TemplateMesh
from crowdgaussian.lorm.training.dataset import PeopleDataset, read_huge100k, silhouette
from crowdgaussian_shared.errors import CrowdGaussianError
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[3] / "scripts"))
converter = importlib.import_module("huge100k_to_npz")

NAME = "Algeria_female_average_high fashion_50~60 years old_844"


@pytest.fixture
def folder(tmp_path):
    """One person of one batch: a grey figure on near white."""
    batch = tmp_path / "flux_batch1" / "images0"
    for name in ("videos", "param"):
        (batch / name).mkdir(parents=True)
    picture = np.full((896, 640, 3), 250, np.uint8)
    picture[100:800, 250:390] = 90
    Image.fromarray(picture).save(batch / "videos" / f"{NAME}.jpg", quality=95)
    values = torch.zeros(1, 189)
    values[0, :189] = torch.arange(189) / 1000.0
    camera = torch.eye(4)
    camera[:3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    camera[2, 3] = 2.8
    lens = torch.tensor([1120.0, 1120, 320, 448])
    about = {"smpl_params": values, "poses": [[camera, lens]] * 24}
    np.save(pickled(tmp_path), about, allow_pickle=True)
    converter.convert(pickled(tmp_path))
    return tmp_path


def pickled(folder):
    return folder / f"flux_batch1/images0/param/{NAME}.npy"


def parameters(folder):
    return pickled(folder).with_suffix(".npz")


def test_the_189_numbers_become_55_joints(folder):
    photo, mask, body = read_huge100k(parameters(folder))
    assert photo.shape == (896, 640, 3) and body.camera.K[0, 0] == 1120
    assert body.camera.viewmat[2, 3] == pytest.approx(2.8)
    numbers = np.arange(189) / 1000
    assert np.allclose(body.pose[0], numbers[4:7], atol=1e-6)  # after scale and transl
    assert np.allclose(body.pose[1:22].ravel(), numbers[7:70], atol=1e-6)
    assert np.allclose(body.betas, numbers[70:80], atol=1e-6)
    assert np.allclose(body.pose[22], numbers[170:173], atol=1e-6)  # jaw
    assert np.allclose(body.pose[25:40].ravel(), numbers[80:125], atol=1e-6)  # left hand
    assert np.allclose(body.pose[40:].ravel(), numbers[125:170], atol=1e-6)
    drawn = np.zeros((896, 640), bool)
    drawn[100:800, 250:390] = True
    assert (mask ^ drawn).mean() < 0.01


def test_the_data_set_finds_its_people(folder):
    mesh = TemplateMesh.from_body(load_body("open"))
    people = PeopleDataset(folder, mesh)
    assert people.names == [f"flux_batch1/images0/{NAME}"]
    person = people[0]
    assert person.betas.shape == (mesh.shape_dirs.shape[2],)
    assert person.joints.shape == (55, 2) and np.isfinite(person.head).all()


def test_a_drawn_mask_counts_more_than_the_background(folder):
    masks = folder / "flux_batch1/images0/masks"
    masks.mkdir()
    drawn = np.zeros((896, 640), np.uint8)
    drawn[200:700, 200:400] = 255
    Image.fromarray(drawn).save(masks / f"{NAME}.png")
    assert (read_huge100k(parameters(folder))[1] == (drawn > 0)).all()


def test_a_busy_background_needs_a_mask():
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(CrowdGaussianError, match="not plain"):
        silhouette(noise)


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_never_runs_code(folder, tmp_path):
    made = tmp_path / "made"
    np.save(pickled(folder), {"smpl_params": Touch(str(made))}, allow_pickle=True)
    with pytest.raises(ValueError, match=r"asks for (posix|nt|os)\.mkdir"):
        converter.convert(pickled(folder))
    assert not made.exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00junk"])
def test_a_damaged_pickle_is_told(folder, content):
    pickled(folder).write_bytes(content)
    with pytest.raises(ValueError):
        converter.convert(pickled(folder))


def test_a_plain_array_is_told(folder):
    np.save(pickled(folder), np.zeros(189))
    with pytest.raises(ValueError, match="no dictionary"):
        converter.convert(pickled(folder))


def test_pickles_alone_are_not_read(folder):
    parameters(folder).unlink()
    with pytest.raises(CrowdGaussianError, match="huge100k_to_npz.py"):
        PeopleDataset(folder, TemplateMesh.from_body(load_body("open")))


def test_other_arrays_are_told(folder):
    np.savez(parameters(folder), smpl_params=np.zeros(7), viewmat=np.eye(4), intrinsics=np.ones(4))
    with pytest.raises(CrowdGaussianError, match="smpl_params"):
        read_huge100k(parameters(folder))
    parameters(folder).write_bytes(b"PK nothing")
    with pytest.raises(CrowdGaussianError, match="damaged"):
        read_huge100k(parameters(folder))
