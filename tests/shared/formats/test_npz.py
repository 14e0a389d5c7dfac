# SPDX-License-Identifier: Apache-2.0
"""npz files: nothing is believed before it is checked."""

import io
import zipfile

import numpy as np
import pytest
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats.npz import read_npz, write_npz


def npy_header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"
    text += " " * (63 - (10 + len(text)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def write_members(path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


def test_round_trip(tmp_path):
    arrays = {
        "floats": np.random.default_rng(0).normal(size=(3, 4)),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "scalar": np.float32(2.5),
        "texts": np.array(["small", "cut"]),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), dtype=np.uint8),
    }
    write_npz(tmp_path / "a.npz", arrays)
    read = read_npz(tmp_path / "a.npz")
    assert list(read) == list(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(read[name], value)
        assert read[name].dtype == np.asarray(value).dtype
    with np.load(tmp_path / "a.npz", allow_pickle=False) as other:
        np.testing.assert_array_equal(other["floats"], arrays["floats"])


def test_the_same_arrays_make_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, {"x": np.arange(9)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_compressed_files_of_numpy_are_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(1000))
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz")["x"], np.arange(1000))


def test_only_the_named_arrays_are_read(tmp_path):
    write_npz(tmp_path / "a.npz", {"x": np.arange(3), "y": np.arange(4)})
    assert list(read_npz(tmp_path / "a.npz", names=["y"])) == ["y"]


def test_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(CrowdGaussianError, match="x of type object cannot be stored"):
        write_npz(tmp_path / "a.npz", {"x": np.array([{}])})
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    with pytest.raises(CrowdGaussianError, match="a.npz: x has the type object"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("shape", "descr"),
    [
        ("(1000000000000,)", "'<f4'"),
        ("(-4,)", "'<f4'"),
        ("(4,)", "'|O'"),
        ("(999999999999,)", "'<U0'"),
        ("(4,)", "[('a', '<f4')]"),
        ("(4,)", "'nonsense'"),
        ("(4, 'a')", "'<f4'"),
        ("(" * 300 + ")" * 300, "'<f4'"),
    ],
)
def test_lying_headers_name_the_array_and_take_no_memory(tmp_path, shape, descr):
    write_members(tmp_path / "a.npz", x=npy_header(shape, descr) + bytes(16))
    with pytest.raises(CrowdGaussianError, match="a.npz: x "):
        read_npz(tmp_path / "a.npz")


def test_a_zip_bomb_is_refused_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr("crowdgaussian_shared.formats.npz.MAX_BYTES", 10_000)
    write_npz(tmp_path / "a.npz", {"x": np.zeros(5000)})
    with pytest.raises(CrowdGaussianError, match="larger than any file"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("keep", [0, 10, 200, -20, -1])
def test_truncated_files(tmp_path, keep):
    write_npz(tmp_path / "a.npz", {"x": np.arange(100), "y": np.arange(50)})
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[:keep])
    with pytest.raises(CrowdGaussianError, match="a.npz is damaged or truncated"):
        read_npz(tmp_path / "a.npz")


def test_flipped_bits_are_noticed_in_the_array_they_hit(tmp_path):
    write_npz(tmp_path / "a.npz", {"x": np.arange(100), "y": np.full(50, 7.0)})
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[data.rindex(np.float64(7).tobytes())] ^= 255
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(CrowdGaussianError, match="a.npz: y is damaged"):
        read_npz(tmp_path / "a.npz")


def test_random_damage_never_escapes_as_another_error(tmp_path):
    write_npz(tmp_path / "a.npz", {"x": np.arange(20), "y": np.array(["a", "b"])})
    whole = (tmp_path / "a.npz").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), size=3):
            data[place] = rng.integers(0, 256)
        (tmp_path / "a.npz").write_bytes(data)
        try:
            read_npz(tmp_path / "a.npz")
        except CrowdGaussianError as error:
            assert "\n" not in str(error)


def test_foreign_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CrowdGaussianError, match="readme.txt does not belong"):
        read_npz(tmp_path / "a.npz")


def test_a_bare_npy_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())
    with pytest.raises(CrowdGaussianError, match="damaged"):
        read_npz(tmp_path / "a.npz")
