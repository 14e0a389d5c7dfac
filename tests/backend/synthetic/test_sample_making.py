# SPDX-License-Identifier: Apache-2.0
"""The tools that make the sample picture: mesh cutting, posing, draping."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

from crowdgaussian.body import load_body  # noqa: E402
from crowdgaussian.core.mesh import vertex_normals  # noqa: E402
from sample import cloth, meshes, posing  # noqa: E402


def grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A unit square in the xz plane, facing up."""
    x, z = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n), indexing="ij")
    points = np.stack([x.ravel(), np.zeros(n * n), z.ravel()], 1)
    a = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate([np.stack([a, a + 1, a + n + 1], 1), np.stack([a, a + n + 1, a + n], 1)])
    return points, faces


def area(points: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (points[faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_clip_cuts_along_the_line_and_keeps_the_orientation():
    points, faces = grid(8)
    matrix, kept = meshes.clip(faces, 0.37 - points[:, 0] + 0.3 * points[:, 2])
    cut = matrix @ points
    assert (0.37 - cut[:, 0] + 0.3 * cut[:, 2]).min() > -1e-9
    assert area(cut, kept) == pytest.approx(0.37 + 0.15)
    assert vertex_normals(cut, kept)[:, 1].min() > 0.99


def test_subdivision_keeps_the_surface():
    points, faces = grid(5)
    matrix, finer = meshes.midpoint_subdivide(faces, len(points))
    assert len(finer) == 4 * len(faces)
    assert area(matrix @ points, finer) == pytest.approx(1.0)
    assert len(meshes.boundary_vertices(finer)) == 32


def test_draped_cloth_rests_on_what_is_below_and_keeps_its_length():
    points, faces = grid(15)
    table = np.stack(
        np.meshgrid(np.linspace(0.3, 0.7, 60), [0.0], np.linspace(0.3, 0.7, 60)), axis=-1
    ).reshape(-1, 3)
    up = np.tile([0.0, 1.0, 0.0], (len(table), 1))
    fabric = cloth.Fabric(steps=60, gap=0.01)
    draped = cloth.drape(
        points + [0, 0.01, 0], points, faces, np.zeros(len(points), bool), (table, up), fabric
    )
    over = (np.abs(points[:, [0, 2]] - 0.5) < 0.15).all(axis=1)
    corners = (np.abs(points[:, [0, 2]] - 0.5) > 0.49).all(axis=1)
    assert draped[over, 1].min() > 0.005
    assert draped[corners, 1].max() < -0.01
    edges = meshes.edges_of(faces)
    lengths, own = (
        np.linalg.norm(p[edges[:, 0]] - p[edges[:, 1]], axis=1) for p in (draped, points)
    )
    assert (lengths / own).max() < 1.1


@pytest.fixture
def puppet():
    body = load_body("open")
    vertices, joints = body.rest(body.betas_from()[None])
    return posing.Puppet(joints[0].double().numpy(), float(vertices[0, :, 1].min()))


@pytest.mark.parametrize(
    "limb, end",
    [
        ("left_arm", "left_wrist"),
        ("right_arm", "right_wrist"),
        ("left_leg", "left_ankle"),
        ("right_leg", "right_ankle"),
    ],
)
def test_a_limb_reaches_its_target(puppet, limb, end):
    puppet.turn("spine1", x=15, y=20)
    target = puppet.where(end) * 0.8 + puppet.where("pelvis") * 0.2
    puppet.reach(limb, target, np.array([0.1, 0.3, 1.0]))
    assert np.linalg.norm(puppet.where(end) - target) < 1e-6


def test_a_planted_foot_is_flat_where_it_was_put(puppet):
    puppet.offset = np.array([0.0, -0.1, 0.0])
    puppet.plant("left", 0.15, 0.2, toe_out=10)
    ankle = puppet.where("left_ankle")
    assert ankle == pytest.approx([0.15, puppet.rest[7, 1], 0.2], abs=1e-6)
    up = puppet.forward()[0][7] @ [0.0, 1.0, 0.0]
    assert up == pytest.approx([0.0, 1.0, 0.0], abs=1e-9)
