# SPDX-License-Identifier: Apache-2.0
"""Splat files of other makers: what is read from them, what is left out, what is refused."""

import gzip
import struct
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from _support.made_up import covariances, make_gaussians
from _support.node_readers import need_node, splat_transform
from crowdgaussian.cli import main as cli
from crowdgaussian.export import read
from crowdgaussian.export.read import read_splats
from crowdgaussian_shared.errors import CrowdGaussianError, DamagedFileError
from crowdgaussian_shared.formats.splat_ply import read_splat_ply, write_splat_ply
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.geometry.sh import sh_to_colour
from scipy.spatial import cKDTree

need_zstandard = pytest.mark.skipif(
    find_spec("zstandard") is None, reason="the extra export is not installed as a whole"
)


@pytest.fixture
def cloud():
    """300 Gaussians of degree 3, in OpenCV's axes."""
    return make_gaussians(300, 3)


def assert_alike(found, cloud, tolerances):
    """In the scene frame, each in its own tolerance: centres, covariances, opacity, colours."""
    wanted = convert_gaussians(cloud, "opencv", "scene")
    centres, shapes, opacities, colours = tolerances
    np.testing.assert_allclose(found.means, wanted.means, atol=centres)
    large = covariances(wanted)
    np.testing.assert_allclose(covariances(found), large, atol=shapes * np.abs(large).max())
    np.testing.assert_allclose(found.opacities, wanted.opacities, atol=opacities)
    kept = np.clip(wanted.sh[:, 0], -3.3, 3.3)  # what eight bits of SPZ hold
    np.testing.assert_allclose(np.clip(found.sh[:, 0], -3.3, 3.3), kept, atol=colours)


def test_a_plain_ply_comes_through(tmp_path, cloud):
    write_splat_ply(tmp_path / "a.ply", cloud)
    found = read_splats(tmp_path / "a.ply", "opencv")
    assert_alike(found.gaussians, cloud, (1e-6, 1e-5, 1e-6, 1e-6))
    assert found.dropped == 0


def test_spz_3(tmp_path, cloud):
    gsply = pytest.importorskip("gsply", reason="the extra export is not installed")
    pytest.importorskip("zstandard", reason="the extra export is not installed as a whole")
    write_splat_ply(tmp_path / "a.ply", convert_gaussians(cloud, "opencv", "scene"))
    gsply.write_spz(tmp_path / "a.spz", gsply.plyread(tmp_path / "a.ply"))
    found = read_splats(tmp_path / "a.spz", "opencv")
    assert_alike(found.gaussians, cloud, (1e-3, 0.1, 0.01, 0.05))
    assert found.gaussians.sh.shape == (300, 16, 3)


def spz_2(cloud):
    """Version 2, written from Niantic's description: three bytes of each rotation, w >= 0."""
    fixed = np.round(cloud.means.astype(np.float64) * 4096).astype("<i4")  # 12 fractional bits
    xyz = cloud.quats[:, 1:] * np.where(cloud.quats[:, :1] < 0, -1, 1)
    columns = [
        fixed.view("u1").reshape(-1, 3, 4)[:, :, :3],
        255 * cloud.opacities,
        (0.15 * cloud.sh[:, 0] + 0.5) * 255,
        (np.log(cloud.scales) + 10) * 16,
        127.5 * xyz + 127.5,
    ]
    body = b"".join(np.clip(np.round(c), 0, 255).astype("u1").tobytes() for c in columns)
    return gzip.compress(spz_head(2, len(cloud)) + body)


def test_spz_2(tmp_path):
    pytest.importorskip("zstandard", reason="the extra export is not installed as a whole")
    cloud = make_gaussians(300, 0)
    (tmp_path / "a.spz").write_bytes(spz_2(convert_gaussians(cloud, "opencv", "scene")))
    found = read_splats(tmp_path / "a.spz", "opencv").gaussians
    assert_alike(found, cloud, (1e-3, 0.1, 0.01, 0.03))


@need_node
@need_zstandard
@pytest.mark.parametrize("ending", ["spz", "compressed.ply"])
def test_what_splat_transform_writes(tmp_path, cloud, ending):
    write_splat_ply(tmp_path / "a.ply", cloud)
    splat_transform(tmp_path / "a.ply", tmp_path / f"b.{ending}")
    (tmp_path / f"b.{ending}").rename(tmp_path / "c.bin")  # the content says what it is
    found = read_splats(tmp_path / "c.bin", "opencv").gaussians
    wanted = convert_gaussians(cloud, "opencv", "scene")  # the writer sorts, so find each again
    apart, order = cKDTree(found.means).query(wanted.means)
    assert apart.max() < 0.01 and len(set(order)) == 300
    np.testing.assert_allclose(found.opacities[order], wanted.opacities, atol=0.01)
    np.testing.assert_allclose(found.scales[order], wanted.scales, rtol=0.05)


def dot_splat(cloud):
    """Antimatter15's layout, written from its definition."""
    rows = b""
    for k in range(len(cloud)):
        colour = np.clip(sh_to_colour(cloud.sh)[k], 0, 1)
        rows += struct.pack("<6f", *cloud.means[k], *cloud.scales[k])
        rows += bytes(round(255 * float(v)) for v in (*colour, cloud.opacities[k]))
        rows += bytes(min(255, max(0, round(128 + 128 * float(v)))) for v in cloud.quats[k])
    return rows


def test_dot_splat(tmp_path):
    cloud = make_gaussians(300, 0)
    (tmp_path / "a.splat").write_bytes(dot_splat(cloud))
    found = read_splats(tmp_path / "a.splat", "opencv").gaussians
    colours = np.clip(sh_to_colour(cloud.sh), 0, 1)
    np.testing.assert_allclose(sh_to_colour(found.sh), colours, atol=0.51 / 255)
    unclipped = np.abs(cloud.sh).max(axis=(1, 2)) < 1
    assert unclipped.sum() > 10
    kept = type(cloud)(**{name: values[unclipped] for name, values in vars(cloud).items()})
    ours = type(cloud)(**{name: values[unclipped] for name, values in vars(found).items()})
    assert_alike(ours, kept, (1e-6, 0.03, 0.01, 0.01))


def test_dot_splats_that_are_none(tmp_path, capsys):
    cloud = make_gaussians(5, 0)
    rows = bytearray(dot_splat(cloud))
    rows[32:36] = b"\0\0\xc0\x7f"  # not a number
    rows[32 * 3 + 28 : 32 * 4] = b"\x80" * 4  # a rotation of length zero
    (tmp_path / "a.splat").write_bytes(rows)
    assert read_splats(tmp_path / "a.splat", "opencv").dropped == 2
    arguments = ["export", str(tmp_path / "a.splat"), "-o", str(tmp_path / "b.ply")]
    assert cli.main(arguments) == 0
    assert "a.splat: 2 that are no splats were left out." in capsys.readouterr().err
    np.testing.assert_allclose(
        read_splat_ply(tmp_path / "b.ply").means, cloud.means[[0, 2, 4]], atol=1e-6
    )


def refused(path):
    with pytest.raises(CrowdGaussianError) as error:
        read_splats(path, "opencv")
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def spz_head(version, count, magic=b"NGSP"):
    return magic + struct.pack("<IIBBBB", version, count, 0, 12, 0, 0)


def test_limits_are_asked_first(tmp_path, monkeypatch):
    path = tmp_path / "a.spz"
    path.write_bytes(gzip.compress(spz_head(3, 20_000_000)))
    assert "20000000 splats, more than the 10000000" in refused(path)
    monkeypatch.setattr(read, "MOST_SPLATS", 4)
    (tmp_path / "a.splat").write_bytes(dot_splat(make_gaussians(5, 0)))
    assert "5 splats, more than the 4" in refused(tmp_path / "a.splat")
    write_splat_ply(tmp_path / "a.ply", make_gaussians(5, 0))
    assert "5 splats, more than the 4" in refused(tmp_path / "a.ply")


STRANGE = {  # named: gzip writes the time into its head, and two processes must name a test alike
    "old version": (gzip.compress(spz_head(1, 5)), "version 1"),
    "other magic": (gzip.compress(spz_head(3, 5, b"GZIP")), "no SPZ"),
    "no splats": (gzip.compress(spz_head(3, 5)), "damaged"),
    "cut in the head": (gzip.compress(spz_head(3, 5))[:8], "no SPZ"),
    "zeros": (b"\x1f\x8b" + bytes(100), "damaged"),
    "version 0": (b"NGSP" + bytes(100), "version 0"),
    "version 4 of zeros": (spz_head(4, 5) + bytes(100), "damaged"),
    "half a PLY": (b"ply\npacked_position\nend_header\n", "damaged"),
    "a GIF": (b"GIF89a", "not a PLY"),
}


@pytest.mark.parametrize("content, words", STRANGE.values(), ids=STRANGE)
def test_damaged_and_strange_files(tmp_path, content, words):
    pytest.importorskip("zstandard", reason="the extra export is not installed as a whole")
    (tmp_path / "a.spz").write_bytes(content)
    assert words in refused(tmp_path / "a.spz")


def test_a_cut_dot_splat_and_none_at_all(tmp_path):
    (tmp_path / "a.splat").write_bytes(dot_splat(make_gaussians(2, 0))[:-3])
    with pytest.raises(DamagedFileError, match="cut off"):
        read_splats(tmp_path / "a.splat", "opencv")
    assert "does not exist" in refused(tmp_path / "b.splat")


def test_without_gsply(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gsply", None)
    (tmp_path / "a.spz").write_bytes(gzip.compress(spz_head(3, 5)))
    assert "crowdgaussian[export]" in refused(tmp_path / "a.spz")
