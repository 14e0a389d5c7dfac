# SPDX-License-Identifier: Apache-2.0
"""Splat files of other makers: what is read from them, what is left out, what is refused."""

import gzip
import json
import struct
import sys
import zipfile
from importlib.util import find_spec

import numpy as np
import pytest
from _support.made_up import covariances, make_gaussians
from _support.node_readers import need_node, splat_transform
from crowdgaussian.cli import main as cli
from crowdgaussian.export import read
from crowdgaussian.export.read import read_splats
from crowdgaussian.export.sog import write_sog
from crowdgaussian_shared.errors import CrowdGaussianError, DamagedFileError
from crowdgaussian_shared.formats.splat_ply import read_splat_ply, write_splat_ply
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.geometry.sh import sh_to_colour
from PIL import Image
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


# .ksplat and SOG, written from their descriptions


def ksplat(cloud, kind, sections=2):
    """GaussianSplats3D's layout: degree 2, sections with two full buckets and one that is not."""
    kinds = [("<f4", "<f4", "<f4"), ("<u2", "<f2", "<f2"), ("<u2", "<f2", "u1")]
    place, half, harmonic = kinds[kind]
    heads, bodies, share = b"", b"", len(cloud) // sections
    for section in range(sections):
        rows = slice(section * share, (section + 1) * share)
        capacity = share * 2 // 5
        sizes = [capacity, capacity, share - 2 * capacity]
        middles = np.array([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]], "<f4")
        bucket = np.repeat(np.arange(3), sizes)
        head = struct.pack("<4If2H6I", share, share, capacity, 3, 16.0, 12, 0, 32767, 0, 2, 1, 2, 0)
        heads += head.ljust(1024, b"\0")
        bodies += struct.pack("<I", sizes[2]) + middles.tobytes()
        rest = cloud.sh[rows, 1:9]
        bands = [rest[:, :3].transpose(0, 2, 1), rest[:, 3:].transpose(0, 2, 1)]
        sh = np.concatenate([band.reshape(share, -1) for band in bands], axis=1)
        means = cloud.means[rows].astype(np.float64)
        if kind:
            means = np.round((means - middles[bucket]) * 32767 / 8 + 32767)
        if kind == 2:
            sh = np.round((np.clip(sh, -4, 4) + 4) / 8 * 255)
        colours = np.c_[sh_to_colour(cloud.sh[rows]), cloud.opacities[rows]]
        columns = [
            means.astype(place),
            cloud.scales[rows].astype(half),
            cloud.quats[rows].astype(half),
            np.round(255 * np.clip(colours, 0, 1)).astype("u1"),
            sh.astype(harmonic),
        ]
        bodies += b"".join(b"".join(c[k].tobytes() for c in columns) for k in range(share))
    counts = sections, sections, len(cloud), len(cloud)
    start = struct.pack("<4B4IHH5f", 0, 1, 0, 0, *counts, kind, 0, 0, 0, 0, -4, 4)
    return start.ljust(4096, b"\0") + heads + bodies


KSPLAT = {0: (1e-6, 1e-5, 1e-6), 1: (2e-4, 1e-3, 2e-3), 2: (2e-4, 1e-3, 0.017)}


@pytest.mark.parametrize("kind", KSPLAT)
def test_ksplat(tmp_path, cloud, kind):
    (tmp_path / "a.ksplat").write_bytes(ksplat(cloud, kind))
    found = read_splats(tmp_path / "a.ksplat", "scene").gaussians
    centres, scales, harmonics = KSPLAT[kind]
    np.testing.assert_allclose(found.means, cloud.means, atol=centres)
    np.testing.assert_allclose(found.scales, cloud.scales, rtol=scales)
    np.testing.assert_allclose(found.quats, cloud.quats, atol=1e-3)
    colours = np.clip(sh_to_colour(cloud.sh), 0, 1)
    np.testing.assert_allclose(sh_to_colour(found.sh), colours, atol=0.51 / 255)
    assert found.sh.shape == (300, 9, 3)
    kept = np.clip(cloud.sh[:, 1:9], -4, 4) if kind == 2 else cloud.sh[:, 1:9]
    np.testing.assert_allclose(found.sh[:, 1:], kept, atol=harmonics)


@need_node
def test_splat_transform_reads_the_same_ksplat(tmp_path, cloud):
    (tmp_path / "a.ksplat").write_bytes(ksplat(cloud, 1))
    splat_transform(tmp_path / "a.ksplat", tmp_path / "b.ply")
    ours = read_splats(tmp_path / "a.ksplat", "scene").gaussians
    theirs = read_splat_ply(tmp_path / "b.ply")
    for name in ("means", "scales", "opacities", "sh"):
        np.testing.assert_allclose(getattr(theirs, name), getattr(ours, name), atol=2e-6)


def test_damaged_ksplats(tmp_path, cloud, monkeypatch):
    path, whole = tmp_path / "a.ksplat", ksplat(cloud, 1)
    for length in (0, 3, 4000, 5000, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "damaged" in refused(path)
    path.write_bytes(b"\1" + whole[1:])
    assert "no .ksplat of version 0.1" in refused(path)
    huge = bytearray(whole)
    huge[4096 + 32 : 4096 + 36] = b"\xff\xff\xff\x7f"  # full buckets
    path.write_bytes(huge)
    assert "damaged" in refused(path)
    path.write_bytes(whole)
    monkeypatch.setattr(read, "MOST_SPLATS", 4)
    assert "300 splats, more than the 4" in refused(path)


def sog_1(folder):
    """Two splats in version 1: everything between two ends, no codebooks."""

    def image(name, pixels):
        Image.fromarray(np.array([pixels], "u1")).save(folder / name, lossless=True, exact=True)
        return {"files": [name]}

    image("l.webp", [[255] * 3, [0] * 3])
    means = {"shape": [2, 3], "mins": [-1.0] * 3, "maxs": [1.0] * 3}
    meta = {
        "means": means | image("u.webp", [[255] * 3, [0] * 3]),
        "scales": {"mins": [-5.0] * 3, "maxs": [0.0] * 3} | image("s.webp", [[0, 51, 255]] * 2),
        "quats": image("q.webp", [[128, 128, 128, 252], [255, 128, 128, 253]]),
        "sh0": {"mins": [-1.0] * 3 + [-10], "maxs": [1.0] * 3 + [10]}
        | image("c.webp", [[255, 0, 51, 255], [0, 0, 0, 0]]),
    }
    meta["means"]["files"] = ["l.webp", "u.webp"]
    (folder / "meta.json").write_text(json.dumps(meta))


def test_sog_1(tmp_path):
    sog_1(tmp_path)
    found = read_splats(tmp_path / "meta.json", "scene").gaussians
    np.testing.assert_allclose(found.means, [[np.e - 1] * 3, [1 - np.e] * 3], rtol=1e-5)
    np.testing.assert_allclose(found.scales, np.exp([[-5, -4, 0]] * 2), rtol=1e-5)
    turned = [[1, 0, 0, 0], [0.5**0.5, 0.5**0.5, 0, 0]]
    np.testing.assert_allclose(found.quats, turned, atol=6e-3)
    np.testing.assert_allclose(found.sh[0, 0], [1, -1, -0.6], atol=1e-6)
    np.testing.assert_allclose(found.opacities, [1, 0], atol=1e-4)


@need_node
def test_the_sog_that_splat_transform_writes(tmp_path):
    write_splat_ply(tmp_path / "a.ply", make_gaussians(20, 0))
    splat_transform(tmp_path / "a.ply", tmp_path / "b.sog")
    splat_transform(tmp_path / "b.sog", tmp_path / "c.ply")
    found = read_splats(tmp_path / "b.sog", "scene").gaussians
    theirs = read_splat_ply(tmp_path / "c.ply")
    for name in ("means", "scales", "opacities", "sh"):
        np.testing.assert_allclose(getattr(theirs, name), getattr(found, name), atol=1e-6)
    np.testing.assert_allclose(covariances(theirs), covariances(found), atol=1e-6)


def bundle(path, meta, **files):
    with zipfile.ZipFile(path, "w") as stream:
        stream.writestr("meta.json", meta if isinstance(meta, str) else json.dumps(meta))
        for name, data in files.items():
            stream.writestr(name, data)
    return path


@pytest.mark.parametrize("meta, words", [
    ("{", "damaged SOG"),
    ("[]", "damaged SOG"),
    ({"version": 9, "count": 1}, "version 9"),
    ({"version": 2, "count": 20_000_000}, "more than the 10000000"),
    ({"version": 2, "count": 5, "means": {"files": ["l", "u"]}}, "it has no l"),
    ({"version": 2, "count": 0}, "no splats"),
])  # fmt: skip
def test_damaged_sogs(tmp_path, meta, words):
    assert words in refused(bundle(tmp_path / "a.sog", meta))


def test_a_sog_whose_images_are_too_small_or_cut(tmp_path):
    write_sog(tmp_path / "a.sog", make_gaussians(40, 1))
    whole = (tmp_path / "a.sog").read_bytes()
    for length in (100, len(whole) // 2, len(whole) - 10):
        (tmp_path / "b.sog").write_bytes(whole[:length])
        assert "damaged SOG" in refused(tmp_path / "b.sog")
    with zipfile.ZipFile(tmp_path / "a.sog") as stream:
        files = {name: stream.read(name) for name in stream.namelist()}
    meta = json.loads(files.pop("meta.json"))
    assert "too few pixels" in refused(bundle(tmp_path / "c.sog", meta | {"count": 99}, **files))
    meta["means"]["files"][0] = "../l.webp"
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    assert "elsewhere" in refused(tmp_path / "meta.json")
