# SPDX-License-Identifier: Apache-2.0
"""Spherical harmonics: the 3DGS basis, and rotation in closed form."""

import numpy as np
import pytest
from _support.made_up import make_gaussians
from crowdgaussian_shared.geometry import sh
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from hypothesis import given
from hypothesis import strategies as st

_parts = st.floats(-4, 4, allow_nan=False)
vectors = st.tuples(_parts, _parts, _parts).map(np.array)


def unit_directions(count, seed=0):
    directions = np.random.default_rng(seed).normal(size=(count, 3))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def test_basis_is_orthonormal_on_the_sphere():
    """Gauss-Legendre in z times equal angles integrates polynomials of degree 6 exactly."""
    heights, weights = np.polynomial.legendre.leggauss(6)
    angles = np.arange(12) * 2 * np.pi / 12
    z, phi = (grid.ravel() for grid in np.meshgrid(heights, angles, indexing="ij"))
    radius = np.sqrt(1 - z**2)
    basis = sh.sh_basis(np.stack([radius * np.cos(phi), radius * np.sin(phi), z], axis=1), 3)
    areas = np.repeat(weights, 12) * 2 * np.pi / 12
    np.testing.assert_allclose(basis.T @ (areas[:, None] * basis), np.eye(16), atol=1e-12)


def test_basis_has_the_signs_of_3dgs():
    x, y, z = directions = unit_directions(1, seed=3)[0]
    basis = sh.sh_basis(directions[None], 3)[0]
    np.testing.assert_allclose(basis[1:4], 0.4886025119029199 * np.array([-y, z, -x]))
    assert basis[4] == pytest.approx(1.0925484305920792 * x * y)
    assert basis[5] == pytest.approx(-1.0925484305920792 * y * z)
    assert basis[6] == pytest.approx(0.31539156525252005 * (2 * z * z - x * x - y * y))
    assert basis[7] == pytest.approx(-1.0925484305920792 * x * z)
    assert basis[8] == pytest.approx(0.5462742152960396 * (x * x - y * y))
    assert basis[9] == pytest.approx(-0.5900435899266435 * y * (3 * x * x - y * y))
    assert basis[10] == pytest.approx(2.890611442640554 * x * y * z)
    assert basis[11] == pytest.approx(-0.4570457994644658 * y * (4 * z * z - x * x - y * y))
    assert basis[12] == pytest.approx(0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y))
    assert basis[13] == pytest.approx(-0.4570457994644658 * x * (4 * z * z - x * x - y * y))
    assert basis[14] == pytest.approx(1.445305721320277 * z * (x * x - y * y))
    assert basis[15] == pytest.approx(-0.5900435899266435 * x * (x * x - 3 * y * y))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@given(vectors)
def test_the_rotated_function_at_the_rotated_direction_is_the_function(degree, vector):
    rotation = axis_angle_to_matrix(vector)
    coefficients = make_gaussians(20, degree).sh.astype(np.float64)
    directions = unit_directions(20)
    turned = sh.rotate_sh(coefficients, rotation)
    seen = sh.eval_sh(turned, directions @ rotation.T)
    np.testing.assert_allclose(seen, sh.eval_sh(coefficients, directions), atol=1e-12)


def test_every_gaussian_gets_its_own_rotation():
    rng = np.random.default_rng(0)
    rotations = axis_angle_to_matrix(rng.normal(size=(50, 3)))
    coefficients = make_gaussians(50).sh.astype(np.float64)
    together = sh.rotate_sh(coefficients, rotations)
    for k in (0, 17, 49):
        np.testing.assert_allclose(
            together[k], sh.rotate_sh(coefficients[k : k + 1], rotations[k])[0], atol=1e-12
        )


@given(vectors, vectors)
def test_rotations_compose(first, second):
    a, b = axis_angle_to_matrix(first), axis_angle_to_matrix(second)
    coefficients = make_gaussians(3).sh.astype(np.float64)
    one_by_one = sh.rotate_sh(sh.rotate_sh(coefficients, a), b)
    np.testing.assert_allclose(one_by_one, sh.rotate_sh(coefficients, b @ a), atol=1e-12)
    np.testing.assert_allclose(
        sh.rotate_sh(sh.rotate_sh(coefficients, a), a.T), coefficients, atol=1e-12
    )


def test_bands_do_not_mix_and_keep_their_energy():
    rotation = axis_angle_to_matrix(np.array([0.3, -1.2, 2.0]))
    for band in (1, 2, 3):
        coefficients = np.zeros((1, 16, 3))
        columns = slice(band**2, (band + 1) ** 2)
        coefficients[:, columns] = np.random.default_rng(band).normal(size=(2 * band + 1, 3))
        turned = sh.rotate_sh(coefficients, rotation)
        assert np.linalg.norm(turned[:, columns]) == pytest.approx(np.linalg.norm(coefficients))
        turned[:, columns] = 0
        assert not turned.any()


def test_chunks_do_not_change_the_result(monkeypatch):
    cloud = make_gaussians(23)
    rotations = axis_angle_to_matrix(np.random.default_rng(5).normal(size=(23, 3)))
    whole = sh.rotate_sh(cloud.sh, rotations)
    monkeypatch.setattr(sh, "_CHUNK", 10)
    np.testing.assert_array_equal(sh.rotate_sh(cloud.sh, rotations), whole)


def test_constant_colour_round_trip():
    colours = np.random.default_rng(0).uniform(size=(9, 3))
    coefficients = sh.colour_to_sh(colours)
    np.testing.assert_allclose(sh.sh_to_colour(coefficients), colours)
    np.testing.assert_allclose(sh.eval_sh(coefficients, unit_directions(9)), colours)
