# SPDX-License-Identifier: Apache-2.0
"""Multi-HMR with random weights in the published layouts."""

import argparse
import math
import pickle

import numpy as np
import pytest
import torch
from _support import multihmr_made_up as made_up
from _support import plain_multihmr as plain
from _support.smplx_made_up import synthetic
from crowdgaussian.people.multihmr.network import (
    Humans,
    MultiHmrNetwork,
    NetworkSizes,
    decode_rotations,
    load_multihmr,
    to_metres,
    to_network_names,
)
from crowdgaussian.people.multihmr.stage import HEAD, SmplxPeople, full_pose
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

WIDTH, BLOCKS, SIDE = made_up.SMALL
SIZE = 14 * SIDE


@pytest.fixture(scope="module")
def state():
    return made_up.random_state(made_up.layout(*made_up.SMALL))


@pytest.fixture(scope="module")
def network(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("multihmr") / "multiHMR_672_S.pt"
    body_model = {"smpl_layer.neutral_10.bm_x.v_template": torch.zeros(5, 3)}
    made_up.write_checkpoint(path, state | body_model)
    return load_multihmr(path)


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


def camera(focal=150.0, x=SIZE / 2, y=SIZE / 2):
    return torch.tensor([[focal, 0, x], [0, 1.05 * focal, y], [0, 0, 1.0]])


@pytest.mark.parametrize("name", made_up.PUBLISHED)
def test_every_tensor_of_the_published_layouts_loads_strictly(name):
    shapes = made_up.layout(*made_up.PUBLISHED[name])
    learned = [shape for key, shape in shapes.items() if ".init_" not in key]
    assert sum(map(math.prod, learned)) == made_up.LEARNED[name]
    sizes = NetworkSizes.from_shapes(shapes)
    assert sizes.image == int(name[:3])
    with torch.device("meta"):
        network = MultiHmrNetwork(sizes)
        tensors = {key: torch.empty(shape) for key, shape in shapes.items()}
    network.load_state_dict(to_network_names(tensors), assign=True, strict=True)
    missing = to_network_names(tensors)
    missing.pop("x_attention_head.cross_values_y")
    with pytest.raises(RuntimeError, match="cross_values_y"):
        network.load_state_dict(missing, assign=True, strict=True)


def plain_places(state, features):
    """Rows and columns of the patches that hold a head, the surest first."""
    hidden = plain.linear(state, "mlp_classif.0", features).relu()
    score = plain.linear(state, "mlp_classif.2", hidden).sigmoid().reshape(SIDE, SIDE)
    places = [
        (i, j)
        for i in range(SIDE)
        for j in range(SIDE)
        if score[i, j] >= 0.5
        and score[i, j] == score[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max()
    ]
    return sorted(places, key=lambda place: -score[place])


def test_it_computes_what_the_plain_twin_computes(network, state, images):
    Ks = torch.stack([camera(), camera(190.0, 61.0, 80.0)])
    found = network(images, Ks, threshold=0.5)
    for image, K, humans in zip(images, Ks, found):
        features = plain.backbone(state, image, BLOCKS)
        places = plain_places(state, features)
        assert len(places) == len(humans.scores) > 3
        grid = features.reshape(SIDE, SIDE, -1)
        full = torch.cat([grid, plain.rays(K, SIDE)], dim=-1)
        pose, betas, cam, expression = plain.head(state, full, places)
        offset = plain.linear(
            state,
            "mlp_offset.2",
            plain.linear(state, "mlp_offset.0", torch.stack([grid[p] for p in places])).relu(),
        )
        loc = torch.tensor([[j + 0.5, i + 0.5] for i, j in places]).add(offset) * 14
        close = {"atol": 2e-4, "rtol": 2e-4}
        torch.testing.assert_close(humans.loc, loc, **close)
        torch.testing.assert_close(humans.betas, betas, **close)
        torch.testing.assert_close(humans.expression, expression, **close)
        torch.testing.assert_close(
            humans.rotations, torch.stack([plain.rotations(row) for row in pose]), **close
        )
        distance = (cam[:, 0] * K[0, 0] * 2 * math.tan(math.pi / 6) / SIZE).exp()
        torch.testing.assert_close(humans.distance, distance, **close)
        torch.testing.assert_close(humans.transl[:, 2], distance, **close)


def test_images_of_a_batch_do_not_touch_each_other(network, images):
    K = camera()
    together = network(images, torch.stack([K, K]), threshold=0.5)
    alone = network(images[1:], K[None], threshold=0.5)[0]
    torch.testing.assert_close(together[1].transl, alone.transl, atol=1e-4, rtol=1e-4)
    nobody = network(images, torch.stack([K, K]), threshold=1.1)
    assert [len(one.scores) for one in nobody] == [0, 0] and nobody[0].rotations.shape[1:] == (
        53,
        3,
        3,
    )


def test_forty_people_attend_to_each_other(state):
    shapes = made_up.layout(WIDTH, BLOCKS, 24)
    wide = MultiHmrNetwork(NetworkSizes.from_shapes(shapes)).eval()
    wide.load_state_dict(to_network_names(made_up.random_state(shapes)))
    generator = torch.Generator().manual_seed(1)
    rows, columns = (
        torch.randperm(24 * 24, generator=generator)[:40].div(24, rounding_mode="floor"),
        torch.arange(40) % 24,
    )
    image = torch.randn(24, 24, WIDTH + 99, generator=generator)
    head = wide.x_attention_head
    with torch.no_grad():
        crowd, fewer = head(image, rows, columns), head(image, rows[:39], columns[:39])
        found = wide(torch.randn(1, 3, 336, 336, generator=generator), camera()[None], 0.0)[0]
    assert crowd.pose.shape == (40, 318) and crowd.pose.isfinite().all()
    assert (crowd.pose[:39] - fewer.pose).abs().max() > 1e-6  # the fortieth is noticed
    assert len(found.scores) >= 40 and found.transl.isfinite().all()


def test_rotations_and_distances():
    identity = decode_rotations(torch.tensor([[2.0, 0, 0, 5.0, 3.0, 0] * 53]))
    torch.testing.assert_close(identity, torch.eye(3).expand(1, 53, 3, 3))
    focal = torch.tensor(448 / math.tan(math.radians(30)))
    near = torch.tensor([math.log(3.0), 99.0])
    torch.testing.assert_close(to_metres(near, focal, 896), torch.tensor([3.0, 50.0]))
    torch.testing.assert_close(to_metres(near[:1], 2 * focal, 896), torch.tensor([9.0]))


def test_the_53_rotations_reach_their_joints():
    turns = torch.arange(53) / 100 + 0.1
    rotations = torch.eye(3).repeat(1, 53, 1, 1)
    rotations[0, :, 0, 0] = rotations[0, :, 1, 1] = turns.cos()
    rotations[0, :, 1, 0], rotations[0, :, 0, 1] = turns.sin(), -turns.sin()
    pose = full_pose(rotations)[0]
    assert pose[:, :2].abs().max() < 1e-6
    expected = {
        "pelvis": 0,
        "head": 15,
        "right_wrist": 21,
        "left_index1": 22,
        "left_thumb3": 36,
        "right_index1": 37,
        "right_thumb3": 51,
        "jaw": 52,
    }
    for name, k in expected.items():
        assert abs(pose[JOINT_INDEX[name], 2] - turns[k]) < 1e-5, name
    assert (pose[[23, 24]] == 0).all()


@pytest.fixture(scope="module")
def smplx_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("smplx") / "SMPLX_NEUTRAL.npz"
    np.savez(path, **synthetic(np.random.default_rng(0)))
    return path


def some_humans(people=3):
    generator = torch.Generator().manual_seed(2)
    pose = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(53) + 0.2 * torch.randn(
        people, 318, generator=generator
    )
    transl = torch.tensor([[0.4, -0.3, 4.0]]).repeat(people, 1)
    return Humans(
        torch.ones(people),
        torch.zeros(people, 2),
        transl[:, 2],
        transl,
        decode_rotations(pose),
        torch.randn(people, 10, generator=generator),
        torch.randn(people, 10, generator=generator),
    )


def test_people_are_placed_as_the_smplx_package_places_them(smplx_file):
    smplx = pytest.importorskip("smplx", reason="smplx is missing; pip install '.[smplx]'")
    humans, K = some_humans(), camera(700.0, 300.0, 200.0)
    placed = SmplxPeople(smplx_file).place(humans, K)
    assert placed.v3d.shape == (3, 10475, 3) and placed.transl_pelvis.shape == (3, 1, 3)
    assert placed.j3d.shape == (3, 127, 3) and placed.j2d.shape == (3, 127, 2)
    projected = placed.j3d.double() @ K.double().T
    assert ((projected[..., :2] / projected[..., 2:]) - placed.j2d).abs().max() < 0.1
    torch.testing.assert_close(placed.j3d[:, HEAD], humans.transl)
    original = smplx.SMPLX(
        str(smplx_file),
        num_betas=10,
        num_expression_coeffs=10,
        use_pca=False,
        flat_hand_mean=True,
        batch_size=3,
    )
    flat = full_pose(humans.rotations).flatten(1)
    theirs = original(
        betas=humans.betas,
        expression=humans.expression,
        body_pose=flat[:, 3:66],
        jaw_pose=flat[:, 66:69],
        left_hand_pose=flat[:, 75:120],
        right_hand_pose=flat[:, 120:165],
    )
    pelvis = theirs.joints[:, :1]
    turned = (theirs.joints - pelvis) @ humans.rotations[:, 0].transpose(1, 2)
    moved = turned - turned[:, HEAD, None] + humans.transl[:, None]
    torch.testing.assert_close(placed.j3d, moved, atol=1e-4, rtol=0)
    vertices = (theirs.vertices - pelvis) @ humans.rotations[:, 0].transpose(1, 2)
    vertices = vertices - turned[:, HEAD, None] + humans.transl[:, None]
    torch.testing.assert_close(placed.v3d, vertices, atol=1e-4, rtol=0)


class Bomb:
    def __reduce__(self):
        return (print, ("boom",))


def test_files_that_are_no_checkpoints_are_refused_and_run_nothing(tmp_path, state, capsys):
    path = tmp_path / "x.pt"
    with pytest.raises(CrowdGaussianError, match="missing"):
        load_multihmr(path)
    torch.save({"args": Bomb(), "model_state_dict": state}, path)
    with pytest.raises(CrowdGaussianError, match="cannot be read"):
        load_multihmr(path)
    path.write_bytes(pickle.dumps({"args": argparse.Namespace(x=Bomb())}))
    with pytest.raises(CrowdGaussianError, match="cannot be read"):
        load_multihmr(path)
    assert "boom" not in capsys.readouterr().out
    lacking = {k: v for k, v in state.items() if k != "mlp_offset.2.bias"}
    made_up.write_checkpoint(path, lacking)
    with pytest.raises(CrowdGaussianError, match="not a Multi-HMR checkpoint"):
        load_multihmr(path)
