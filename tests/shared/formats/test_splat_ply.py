# SPDX-License-Identifier: Apache-2.0
"""Splat PLY: what we write, what other tools write, and what is broken."""

import os
import struct

import numpy as np
import pytest
from _support.made_up import make_gaussians
from crowdgaussian_shared.errors import CrowdGaussianError, DamagedFileError, InputError
from crowdgaussian_shared.formats import ply
from crowdgaussian_shared.formats.splat_ply import read_splat_file, read_splat_ply, write_splat_ply
from crowdgaussian_shared.geometry.avatar import Gaussians
from plyfile import PlyData, PlyElement

FIELDS = (
    "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
).split()


def assert_same(read: Gaussians, written: Gaussians, tolerance: float = 1e-6) -> None:
    for name, value in vars(written).items():
        got = getattr(read, name)
        assert got.dtype == np.float32 and got.shape == value.shape, name
        np.testing.assert_allclose(got, value, rtol=1e-5, atol=tolerance, err_msg=name)


def test_labels_come_back_and_foreign_ones_are_nobodys(tmp_path):
    path, labels = tmp_path / "a.ply", np.array([0, 5, 2, 3, 1], np.uint8)
    write_splat_ply(path, make_gaussians(5, 1), labels=labels)
    assert_same(read_splat_ply(path), make_gaussians(5, 1), 1e-5)
    np.testing.assert_array_equal(read_splat_file(path).labels, labels)
    write_splat_ply(path, make_gaussians(5, 1))
    assert read_splat_file(path).labels is None
    for odd in (0.5, 6, -1, np.nan):
        rows = foreign_rows(5, [*FIELDS, "material"])
        rows["material"] = [0, 1, 2, 3, odd]
        write_foreign(path, rows)
        assert read_splat_file(path).labels is None


def foreign_rows(count=5, names=FIELDS, dtype="f4"):
    rows = np.zeros(count, dtype=[(name, dtype) for name in names])
    for k, name in enumerate(names):
        rows[name] = 0.1 * k + np.arange(count)
    return rows


def write_foreign(path, rows, text=False, order="<", faces=0):
    elements = [PlyElement.describe(rows, "vertex")]
    if faces:
        face = np.empty(faces, dtype=[("vertex_indices", "i4", (3,))])
        face["vertex_indices"] = [0, 1, 2]
        elements.insert(0, PlyElement.describe(face, "face"))
    PlyData(elements, text=text, byte_order=order).write(str(path))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_round_trip(tmp_path, degree, count):
    cloud = make_gaussians(count, degree)
    write_splat_ply(tmp_path / "a.ply", cloud)
    assert_same(read_splat_ply(tmp_path / "a.ply"), cloud)


def test_the_bytes_are_the_3dgs_layout(tmp_path):
    cloud = make_gaussians(2, degree=1)
    write_splat_ply(tmp_path / "a.ply", cloud, comments=("made by a test",))
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    lines = header.decode().split("\n")
    assert lines[:4] == [
        "ply", "format binary_little_endian 1.0", "comment made by a test", "element vertex 2"
    ]  # fmt: skip
    names = [line.split()[2] for line in lines if line.startswith("property float ")]
    rest = [f"f_rest_{k}" for k in range(9)]
    assert names == [*"x y z nx ny nz".split(), *FIELDS[3:6], *rest, *FIELDS[6:]]
    second = struct.unpack_from(f"<{len(names)}f", body, len(body) // 2)
    row = dict(zip(names, second, strict=True))
    sh, opacity = cloud.sh[1], cloud.opacities[1]
    assert [row[f"f_rest_{k}"] for k in range(9)] == [sh[1 + k % 3, k // 3] for k in range(9)]
    assert row["opacity"] == pytest.approx(np.log(opacity / (1 - opacity)), rel=1e-5)
    assert row["scale_2"] == pytest.approx(np.log(cloud.scales[1, 2]), rel=1e-5)
    assert row["rot_0"] == cloud.quats[1, 0] and row["nx"] == 0


@pytest.mark.parametrize(("text", "order"), [(False, "<"), (False, ">"), (True, "=")])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_every_encoding(tmp_path, text, order, degree):
    cloud = make_gaussians(7, degree)
    write_splat_ply(tmp_path / "a.ply", cloud)
    ply = PlyData.read(str(tmp_path / "a.ply"))
    elements = [PlyElement.describe(np.array(ply["vertex"].data), "vertex")]
    PlyData(elements, text=text, byte_order=order).write(str(tmp_path / "b.ply"))
    assert_same(read_splat_ply(tmp_path / "b.ply"), cloud, 1e-5)


@pytest.mark.parametrize("text", [False, True])
def test_other_tools_order_types_extras_and_faces(tmp_path, text):
    names = ["rot_3", "red", "opacity", *[n for n in FIELDS if n not in ("rot_3", "opacity")]]
    rows = foreign_rows(5, names, "f8").astype(
        [(name, "u1" if name == "red" else "f8") for name in names]
    )
    write_foreign(tmp_path / "a.ply", rows, text=text, faces=4)
    read = read_splat_ply(tmp_path / "a.ply")
    np.testing.assert_allclose(read.means[:, 0], rows["x"], rtol=1e-6)
    quats = np.stack([rows[f"rot_{k}"] for k in range(4)], axis=1)
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    np.testing.assert_allclose(read.quats, quats, atol=1e-6)
    np.testing.assert_allclose(read.opacities, 1 / (1 + np.exp(-rows["opacity"])), rtol=1e-5)
    assert read.sh_degree == 0


def test_degree_four_is_cut_to_three(tmp_path):
    names = [*FIELDS, *(f"f_rest_{k}" for k in range(72))]
    rows = foreign_rows(3, names)
    write_foreign(tmp_path / "a.ply", rows)
    sh = read_splat_ply(tmp_path / "a.ply").sh
    assert sh.shape == (3, 16, 3)
    np.testing.assert_array_equal(sh[:, 1, 1], rows["f_rest_24"])
    np.testing.assert_array_equal(sh[:, 15, 2], rows["f_rest_62"])


def test_infinite_logits_are_zero_and_one(tmp_path):
    rows = foreign_rows(3)
    rows["opacity"] = [-np.inf, 0, np.inf]
    rows["scale_1"] = [-np.inf, 0, 1]
    write_foreign(tmp_path / "a.ply", rows)
    read = read_splat_ply(tmp_path / "a.ply")
    np.testing.assert_allclose(read.opacities, [0, 0.5, 1], atol=1e-30)
    assert read.scales[0, 1] == 0


def test_opacity_and_scale_limits_stay_finite_when_written(tmp_path):
    cloud = make_gaussians(2, 0)
    cloud.opacities[:] = [0, 1]
    cloud.scales[0, 0] = 0
    write_splat_ply(tmp_path / "a.ply", cloud)
    assert_same(read_splat_ply(tmp_path / "a.ply"), cloud)


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(tmp_path, field):
    rows = foreign_rows(3, [name for name in FIELDS if name != field])
    write_foreign(tmp_path / "cut.ply", rows)
    with pytest.raises(DamagedFileError, match=rf"cut\.ply: .* {field} is missing"):
        read_splat_ply(tmp_path / "cut.ply")


def test_a_compressed_ply_says_what_to_do(tmp_path):
    write_foreign(
        tmp_path / "small.ply", foreign_rows(3, ["packed_position", "packed_rotation"], "u4")
    )
    with pytest.raises(InputError, match="compressed PLY; convert it"):
        read_splat_ply(tmp_path / "small.ply")


UNSOUND = [
    ("y", np.nan), ("f_dc_1", np.nan), ("opacity", np.nan), ("scale_2", np.nan), ("rot_0", np.nan),
    ("f_rest_4", np.nan), ("x", np.inf), ("scale_1", 90.0), ("scale_0", np.inf), ("f_dc_2", 1e300),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), UNSOUND)
def test_a_row_that_is_no_splat_is_left_out_and_counted(tmp_path, field, value):
    rows = foreign_rows(4, [*FIELDS, *(f"f_rest_{k}" for k in range(9)), "material"], "f8")
    rows["material"] = [1, 2, 3, 4]
    rows[field][2] = value
    write_foreign(tmp_path / "a.ply", rows)
    read = read_splat_file(tmp_path / "a.ply")
    assert read.dropped == 1 and len(read.gaussians) == 3
    np.testing.assert_allclose(read.gaussians.means[:, 0], rows["x"][[0, 1, 3]])
    np.testing.assert_array_equal(read.labels, [1, 2, 4])
    assert all(np.isfinite(values).all() for values in vars(read.gaussians).values())


@pytest.mark.parametrize(("field", "value"), UNSOUND)
def test_a_file_without_a_splat_is_refused(tmp_path, field, value):
    rows = foreign_rows(3, [*FIELDS, *(f"f_rest_{k}" for k in range(9))], "f8")
    rows[field] = value
    write_foreign(tmp_path / "a.ply", rows)
    with pytest.raises(DamagedFileError, match=rf"a.ply: none of its 3 .* {field} holds no number"):
        read_splat_ply(tmp_path / "a.ply")


def test_rotations_of_length_zero_are_no_splats(tmp_path):
    rows = foreign_rows(3)
    for k in range(4):
        rows[f"rot_{k}"][1:] = 0
    write_foreign(tmp_path / "a.ply", rows)
    assert read_splat_file(tmp_path / "a.ply").dropped == 2
    for k in range(4):
        rows[f"rot_{k}"] = 0
    write_foreign(tmp_path / "a.ply", rows)
    with pytest.raises(DamagedFileError, match="none of its 3 splats can be one, each has a field"):
        read_splat_ply(tmp_path / "a.ply")


def test_the_limit_is_asked_before_a_splat_is_read(tmp_path, monkeypatch):
    write_foreign(tmp_path / "a.ply", foreign_rows(30))
    assert len(read_splat_file(tmp_path / "a.ply", 30).gaussians) == 30
    monkeypatch.setattr(ply.np, "frombuffer", None)
    with pytest.raises(InputError, match="holds 30 splats, more than the 29 that are read"):
        read_splat_file(tmp_path / "a.ply", 29)


def test_partial_bands_are_refused(tmp_path):
    write_foreign(tmp_path / "a.ply", foreign_rows(3, [*FIELDS, "f_rest_0", "f_rest_1"]))
    with pytest.raises(DamagedFileError, match="2 vertex fields f_rest"):
        read_splat_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("text", [False, True])
def test_truncated_files_are_refused(tmp_path, text):
    write_foreign(tmp_path / "a.ply", foreign_rows(50), text=text)
    whole = (tmp_path / "a.ply").read_bytes()
    for keep in (0, 3, 40, len(whole) // 2, len(whole) - 30):
        (tmp_path / "a.ply").write_bytes(whole[:keep])
        with pytest.raises(CrowdGaussianError, match="a.ply"):
            read_splat_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize("kind", ["float x", "list uchar int x"])
def test_claims_larger_than_the_file_take_no_memory(tmp_path, form, kind):
    header = f"ply\nformat {form} 1.0\nelement vertex 9999999999999\nproperty {kind}\nend_header\n"
    (tmp_path / "a.ply").write_text(header + "0 " * 100)
    with pytest.raises(CrowdGaussianError, match="truncated: .* 9999999999999 vertex rows"):
        read_splat_ply(tmp_path / "a.ply")


def test_a_list_in_the_place_of_a_number_is_refused(tmp_path):
    header = "ply\nformat ascii 1.0\nelement vertex 1\n"
    header += "".join(f"property {'list uchar int' if n == 'y' else 'float'} {n}\n" for n in FIELDS)
    values = "1 1 7" + " 1" * (len(FIELDS) - 2)
    (tmp_path / "a.ply").write_text(f"{header}end_header\n{values}\n")
    with pytest.raises(CrowdGaussianError, match="field y is a list"):
        read_splat_ply(tmp_path / "a.ply")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"ply\n" + b"comment " + b"x" * 100_000,
        b"ply\nformat ascii 1.0\nelement vertex -4\nproperty float x\nend_header\n",
        b"ply\nformat ascii 1.0\nelement vertex\nend_header\n",
        b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty quad x\nend_header\n12",
        b"ply\nformat ascii 1.0\nelement face 0\nproperty float x\nend_header\n",
        b"ply\nformat nonsense 1.0\nelement vertex 0\nproperty float x\nend_header\n",
        b"ply\nformat ascii 1.0\nproperty float x\nend_header\n",
    ],
)
def test_nonsense_is_one_sentence(tmp_path, content):
    (tmp_path / "bad.ply").write_bytes(content)
    with pytest.raises(CrowdGaussianError, match="bad.ply") as caught:
        read_splat_ply(tmp_path / "bad.ply")
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CrowdGaussianError, match="does not exist"):
        read_splat_ply(tmp_path / "none.ply")
    with pytest.raises(CrowdGaussianError, match="cannot be read"):
        read_splat_ply(tmp_path)


def test_values_that_are_not_finite_are_not_written(tmp_path):
    cloud = make_gaussians(3)
    cloud.sh[1, 2, 0] = np.nan
    with pytest.raises(CrowdGaussianError, match="f_rest_1 holds values that are not finite"):
        write_splat_ply(tmp_path / "a.ply", cloud)
    assert os.listdir(tmp_path) == []
