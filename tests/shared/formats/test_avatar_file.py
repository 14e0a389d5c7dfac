# SPDX-License-Identifier: Apache-2.0
"""avatar.npz: round trip, and every array checked by name."""

from dataclasses import replace

import numpy as np
import pytest
from _support.made_up import make_avatar, make_materials
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats import avatar_npz as avatar_file
from crowdgaussian_shared.formats.avatar_npz import read_avatar, write_avatar
from crowdgaussian_shared.formats.npz import read_npz, write_npz


def assert_same(read, written):
    for part in (read.gaussians, read.body, read):
        other = {type(p): p for p in (written.gaussians, written.body, written)}[type(part)]
        for name, value in vars(part).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)
                assert value.dtype == getattr(other, name).dtype, name
    assert read.scale == pytest.approx(written.scale)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 30])
def test_round_trip(tmp_path, degree, count):
    avatar = make_avatar(count, degree)
    write_avatar(tmp_path / "avatar.npz", avatar)
    assert_same(read_avatar(tmp_path / "avatar.npz"), avatar)


def test_float64_input_is_stored_as_the_format_says(tmp_path):
    avatar = make_avatar()
    wide = avatar.with_params(pose=avatar.pose.astype(np.float64), betas=np.zeros(0))
    write_avatar(tmp_path / "avatar.npz", wide)
    read = read_avatar(tmp_path / "avatar.npz")
    assert read.pose.dtype == np.float32 and read.betas.shape == (0,)


def test_materials_come_back_and_older_files_have_none(tmp_path):
    path, materials = tmp_path / "avatar.npz", make_materials(40)
    write_avatar(path, make_avatar(40))
    assert read_avatar(path).materials is None
    write_avatar(path, replace(make_avatar(40), materials=materials))
    read = read_avatar(path).materials
    for name in ("label", "confidence"):
        np.testing.assert_array_equal(getattr(read, name), getattr(materials, name))
        assert getattr(read, name).dtype == getattr(materials, name).dtype


def test_materials_are_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "avatar.npz"
    write_avatar(path, replace(make_avatar(40), materials=make_materials(40)))
    arrays = read_npz(path)
    del arrays["material_confidence"]
    write_npz(path, arrays)
    with pytest.raises(CrowdGaussianError, match="material_confidence is missing"):
        read_avatar(path)


def spoil(tmp_path, name, change):
    """Write a good avatar, change one array behind the writer's back, and read it."""
    path = tmp_path / "avatar.npz"
    write_avatar(path, replace(make_avatar(), materials=make_materials()))
    arrays = read_npz(path)
    arrays[name] = change(arrays[name])
    write_npz(path, arrays)
    read_avatar(path)


def put(value, *place):
    def change(array):
        array = array.copy()
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("means", put(np.nan, 3, 1), "must be finite"),
        ("means", put(np.inf, 3, 1), "must be finite"),
        ("means", lambda a: a.astype(np.float64), "must be float32, not float64"),
        ("means", lambda a: a[:, :2], r"must have the shape \[40, 3\], not \[40, 2\]"),
        ("quats", put(0.0, 2, slice(None)), "must be unit quaternions"),
        ("scales", put(-0.1, 0, 0), "must be finite and lie between 0"),
        ("opacities", put(1.5, 7), "must be finite and lie between 0 and 1"),
        ("opacities", lambda a: a[:9], r"must have the shape \[40\], not \[9\]"),
        ("sh", lambda a: a[:, :3], "must have 1, 4, 9 or 16 coefficients"),
        ("sh", put(np.nan, 0, 0, 0), "must be finite"),
        ("skin_joints", put(55, 0, 0), "must be finite and lie between 0 and 54"),
        ("skin_weights", put(0.0, 4, slice(None)), "must sum to 1"),
        ("skin_weights", put(-0.2, 4, 0), "must be finite and lie between 0"),
        ("rest_joints", lambda a: a[:24], r"must have the shape \[55, 3\]"),
        ("body_vertices", put(np.nan, 0, 0), "must be finite"),
        ("body_faces", put(12, 0, 0), "name vertices that do not exist"),
        ("body_faces", put(-1, 0, 0), "must be finite and lie between 0"),
        ("body_faces", lambda a: a.astype(np.int64), "must be int32"),
        ("body_skin_weights", put(0.9, 1, slice(None)), "must sum to 1"),
        ("pose", put(np.nan, 54, 2), "must be finite"),
        ("transl", lambda a: a[None], r"must have the shape \[3\], not \[1, 3\]"),
        ("betas", lambda a: a[None], "must have the shape"),
        ("scale", lambda a: np.zeros_like(a), "must be finite and lie between 0.001"),
        ("material", put(6, 3), "must be finite and lie between 0 and 5"),
        ("material", lambda a: a.astype(np.int64), "must be uint8, not int64"),
        ("material", lambda a: a[:9], r"must have the shape \[40\], not \[9\]"),
        ("material_confidence", put(np.nan, 0), "must be finite and lie between 0 and 1"),
        ("material_confidence", put(1.5, 0), "must be finite and lie between 0 and 1"),
    ],
)
def test_every_array_is_checked(tmp_path, name, change, words):
    with pytest.raises(CrowdGaussianError, match=rf"avatar\.npz: (the rows of )?{name} {words}"):
        spoil(tmp_path, name, change)


def test_a_missing_array_is_named(tmp_path):
    path = tmp_path / "avatar.npz"
    write_avatar(path, make_avatar())
    arrays = read_npz(path)
    for name in arrays:
        write_npz(path, {n: a for n, a in arrays.items() if n != name})
        with pytest.raises(CrowdGaussianError, match=f"avatar.npz: {name} is missing"):
            read_avatar(path)


def test_a_newer_version_says_so(tmp_path):
    with pytest.raises(CrowdGaussianError, match="newer CrowdGaussian .avatar version 9.; update"):
        spoil(tmp_path, "version", lambda a: np.array(9, dtype=np.int32))


def test_unknown_arrays_are_left_alone(tmp_path):
    path = tmp_path / "avatar.npz"
    write_avatar(path, make_avatar())
    write_npz(path, {**read_npz(path), "later": np.zeros(3)})
    assert_same(read_avatar(path), make_avatar())


def test_too_many_gaussians_are_refused_before_they_are_read(tmp_path, monkeypatch):
    write_avatar(tmp_path / "avatar.npz", make_avatar(40))
    monkeypatch.setitem(avatar_file._LIMITS, "N", 39)
    monkeypatch.setattr(
        "crowdgaussian_shared.formats.npz._read_array", lambda *_: pytest.fail("read")
    )
    with pytest.raises(CrowdGaussianError, match=r"means must have the shape \[N up to 39, 3\]"):
        read_avatar(tmp_path / "avatar.npz")


def test_the_writer_checks_too_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "avatar.npz"
    good = make_avatar()
    write_avatar(path, good)
    bad = good.with_params(transl=np.array([np.nan, 0, 0], dtype=np.float32))
    with pytest.raises(CrowdGaussianError, match="transl must be finite"):
        write_avatar(path, bad)
    assert_same(read_avatar(path), good)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_truncated(tmp_path, keep):
    path = tmp_path / "avatar.npz"
    write_avatar(path, make_avatar())
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(CrowdGaussianError, match="avatar.npz is damaged or truncated"):
        read_avatar(path)
