# SPDX-License-Identifier: Apache-2.0
"""Rotations: the group axioms and the agreement of the three forms."""

import numpy as np
from crowdgaussian_shared.geometry import rotations as rot
from hypothesis import given
from hypothesis import strategies as st

_parts = st.floats(-4, 4, allow_nan=False)
vectors = st.tuples(_parts, _parts, _parts).map(np.array)
quats = vectors.map(rot.axis_angle_to_quat)


def same_rotation(a, b, tolerance=1e-12):
    return abs(abs(np.sum(a * b)) - 1) < tolerance


@given(quats, quats, quats)
def test_multiplication_is_associative(a, b, c):
    left = rot.quat_multiply(rot.quat_multiply(a, b), c)
    right = rot.quat_multiply(a, rot.quat_multiply(b, c))
    np.testing.assert_allclose(left, right, atol=1e-12)


@given(quats)
def test_identity_and_inverse(q):
    one = np.array([1.0, 0, 0, 0])
    np.testing.assert_allclose(rot.quat_multiply(one, q), q, atol=1e-12)
    np.testing.assert_allclose(rot.quat_multiply(q, one), q, atol=1e-12)
    np.testing.assert_allclose(rot.quat_multiply(q, q * [1, -1, -1, -1]), one, atol=1e-12)


@given(quats, quats)
def test_products_are_closed_and_match_matrices(a, b):
    product = rot.quat_multiply(a, b)
    assert abs(np.linalg.norm(product) - 1) < 1e-12
    np.testing.assert_allclose(
        rot.quat_to_matrix(product), rot.quat_to_matrix(a) @ rot.quat_to_matrix(b), atol=1e-12
    )


@given(vectors)
def test_matrix_is_a_proper_rotation_about_the_axis(vector):
    matrix = rot.axis_angle_to_matrix(vector)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) > 0
    np.testing.assert_allclose(matrix @ vector, vector, atol=1e-11)
    angle = np.linalg.norm(vector)
    assert abs(np.trace(matrix) - (1 + 2 * np.cos(angle))) < 1e-11


@given(quats)
def test_round_trip_through_matrix_and_axis_angle(q):
    assert same_rotation(rot.matrix_to_quat(rot.quat_to_matrix(q)), q)
    vector = rot.quat_to_axis_angle(q)
    assert np.linalg.norm(vector) <= np.pi + 1e-9
    assert same_rotation(rot.axis_angle_to_quat(vector), q)
    np.testing.assert_allclose(
        rot.axis_angle_to_matrix(rot.matrix_to_axis_angle(rot.quat_to_matrix(q))),
        rot.quat_to_matrix(q),
        atol=1e-9,
    )


def test_quarter_turn_about_z_carries_x_to_y():
    turn = rot.axis_angle_to_matrix(np.array([0, 0, np.pi / 2]))
    np.testing.assert_allclose(turn @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_half_turns_about_every_axis_survive():
    for axis in np.vstack([np.eye(3), [[0.6, 0.8, 0], [0, -0.6, 0.8]]]):
        matrix = rot.axis_angle_to_matrix(np.pi * axis)
        np.testing.assert_allclose(matrix, 2 * np.outer(axis, axis) - np.eye(3), atol=1e-12)
        np.testing.assert_allclose(np.abs(rot.matrix_to_axis_angle(matrix)), np.pi * np.abs(axis))


def test_tiny_angles_keep_their_axis():
    tiny = np.array([[1e-12, -2e-12, 3e-12], [0, 0, 0], [1e-5, 0, 0]])
    np.testing.assert_allclose(
        rot.quat_to_axis_angle(rot.axis_angle_to_quat(tiny)), tiny, rtol=1e-9
    )


@given(vectors, st.integers(0, 2**32 - 1))
def test_polar_rotation_undoes_a_symmetric_stretch(vector, seed):
    wanted = rot.axis_angle_to_matrix(vector)
    factor = np.random.default_rng(seed).normal(size=(3, 3))
    stretch = factor @ factor.T + 0.1 * np.eye(3)
    np.testing.assert_allclose(rot.polar_rotation(wanted @ stretch), wanted, atol=1e-9)


def test_polar_rotation_of_a_mirror_is_proper():
    turn = rot.polar_rotation(np.diag([1.0, 2.0, -0.5])[None])
    assert np.linalg.det(turn[0]) > 0


def test_leading_shapes_are_kept():
    vectors_ = np.random.default_rng(0).normal(size=(2, 5, 3))
    assert rot.axis_angle_to_matrix(vectors_).shape == (2, 5, 3, 3)
    assert rot.matrix_to_quat(rot.axis_angle_to_matrix(vectors_)).shape == (2, 5, 4)
    assert rot.axis_angle_to_quat(vectors_.astype(np.float32)).dtype == np.float32
