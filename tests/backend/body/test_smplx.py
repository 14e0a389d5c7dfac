# SPDX-License-Identifier: Apache-2.0
"""SMPL-X from a file of random numbers with the real file's keys and shapes."""

import importlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from _support.smplx_made_up import synthetic
from crowdgaussian.body import load_body
from crowdgaussian.synthetic.scans import read_hands, read_parameters
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

sys.path.append(str(Path(__file__).resolve().parents[3] / "scripts"))
converter = importlib.import_module("thuman_to_npz")
smplx = pytest.importorskip("smplx", reason="smplx is missing; pip install '.[smplx]'")


@pytest.fixture(scope="module")
def arrays():
    return synthetic(np.random.default_rng(0))


@pytest.fixture(scope="module")
def folder(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("smplx")
    np.savez(path / "SMPLX_NEUTRAL.npz", **arrays)
    return path


@pytest.fixture(scope="module")
def body(folder):
    return load_body("smplx", folder)


def test_it_says_that_it_is_not_for_commercial_use(body):
    assert not body.commercial
    assert "non-commercial" in body.licence
    assert body.num_betas == 10


def test_posing_equals_the_smplx_package(body, folder):
    original = smplx.SMPLX(
        str(folder / "SMPLX_NEUTRAL.npz"),
        num_betas=10,
        use_pca=False,
        flat_hand_mean=True,
        batch_size=1,
    )
    generator = torch.Generator().manual_seed(1)
    betas = torch.randn(1, 10, generator=generator)
    pose = 0.3 * torch.randn(1, 55, 3, generator=generator)
    transl = torch.tensor([[0.1, 0.2, 3.0]])
    flat = pose.flatten(1)
    theirs = original(
        betas=betas,
        transl=transl,
        global_orient=flat[:, :3],
        body_pose=flat[:, 3:66],
        jaw_pose=flat[:, 66:69],
        leye_pose=flat[:, 69:72],
        reye_pose=flat[:, 72:75],
        left_hand_pose=flat[:, 75:120],
        right_hand_pose=flat[:, 120:165],
    )
    ours = body(betas, pose, transl)
    torch.testing.assert_close(ours.vertices, theirs.vertices, atol=2e-5, rtol=0)
    torch.testing.assert_close(ours.joints, theirs.joints[:, :55], atol=2e-5, rtol=0)
    landmarks = body.landmarks(ours)
    assert landmarks.shape == (1, 33, 3)
    nose = theirs.joints[:, 55]
    torch.testing.assert_close(landmarks[:, 0], nose, atol=2e-5, rtol=0)
    left_wrist = theirs.joints[:, JOINT_INDEX["left_wrist"]]
    torch.testing.assert_close(landmarks[:, 15], left_wrist, atol=2e-5, rtol=0)
    mouth_left = theirs.joints[:, 76 + 37]  # 51 face landmarks follow 76 joints and vertices
    torch.testing.assert_close(landmarks[:, 9], mouth_left, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("hand", "place"), [(12, "translation"), (45, "transl")])
def test_bodies_of_scans_are_where_the_smplx_package_has_them(body, folder, tmp_path, hand, place):
    """THuman2.1 to scan 0525, and from 0526 (its authors' code in ytrock/THuman2.0-Dataset#23)."""
    rng = np.random.default_rng(2)
    sizes = {
        "global_orient": 3,
        "body_pose": 63,
        "jaw_pose": 3,
        "leye_pose": 3,
        "reye_pose": 3,
        "left_hand_pose": hand,
        "right_hand_pose": hand,
        "betas": 10,
    }
    values = {k: 0.3 * rng.normal(size=(1, size)).astype(np.float32) for k, size in sizes.items()}
    scale, at = 0.4, np.array([[0.1, 0.2, 0.3]], np.float32)
    (tmp_path / "smplx_param.pkl").write_bytes(
        pickle.dumps({**values, "scale": np.float32([scale]), place: at})
    )
    original = smplx.SMPLX(
        str(folder / "SMPLX_NEUTRAL.npz"),
        use_pca=hand == 12,
        num_pca_comps=hand,
        flat_hand_mean=False,
    )
    transl = torch.tensor(at / scale if place == "translation" else at)
    theirs = original(**{k: torch.tensor(v) for k, v in values.items()}, transl=transl)
    given, unit = read_parameters(
        converter.convert(tmp_path / "smplx_param.pkl"),
        body,
        read_hands(folder / "SMPLX_NEUTRAL.npz"),
    )
    ours = body(*(torch.tensor(v)[None] for v in (given.betas, given.pose, given.transl)))
    scan = scale * theirs.vertices
    torch.testing.assert_close(ours.vertices, scan * unit, atol=2e-5, rtol=0)


def test_it_cannot_be_described(body):
    with pytest.raises(CrowdGaussianError, match="use the body model 'open'"):
        body.betas_from(sex=0.0)


def test_what_is_wrong_is_said_in_one_sentence(arrays, tmp_path):
    with pytest.raises(CrowdGaussianError, match="needs the path"):
        load_body("smplx")
    with pytest.raises(CrowdGaussianError, match="holds no SMPLX_NEUTRAL.npz"):
        load_body("smplx", tmp_path)
    (tmp_path / "SMPLX_NEUTRAL.pkl").write_bytes(b"")
    with pytest.raises(CrowdGaussianError, match=".npz only"):
        load_body("smplx", tmp_path / "SMPLX_NEUTRAL.pkl")
    small = {k: v for k, v in arrays.items() if k not in ("posedirs", "shapedirs")}
    np.savez(tmp_path / "lacking.npz", **small)
    with pytest.raises(CrowdGaussianError, match="lacks shapedirs, posedirs"):
        load_body("smplx", tmp_path / "lacking.npz")
    parents = arrays["kintree_table"].copy()
    parents[0, 5] = 0
    np.savez(tmp_path / "tree.npz", **(arrays | {"kintree_table": parents}))
    with pytest.raises(CrowdGaussianError, match="other parents"):
        load_body("smplx", tmp_path / "tree.npz")
