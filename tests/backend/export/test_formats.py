# SPDX-License-Identifier: Apache-2.0
"""SPZ, SOG, .splat and OpenUSD as written here, back through other people's readers."""

import gzip
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from _support.made_up import covariances, make_gaussians
from _support.node_readers import need_node, splat_transform
from crowdgaussian.cli import main as cli
from crowdgaussian.export import sog
from crowdgaussian.export.files import write_dot_splat, write_spz
from crowdgaussian.export.interchange import Cloud, write_usd
from crowdgaussian.export.read import read_splats
from crowdgaussian.export.sog import codebook, palette, read_sog, write_sog
from crowdgaussian_shared.errors import CrowdGaussianError, MissingFileError
from crowdgaussian_shared.formats.splat_ply import read_splat_ply, write_splat_ply
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.geometry.rotations import quat_to_matrix
from crowdgaussian_shared.geometry.sh import SH_C0, sh_to_colour
from crowdgaussian_shared.geometry.skinning import join_gaussians
from plyfile import PlyData

COUNT = 300


@pytest.fixture(scope="module")
def cloud():
    """Gaussians of degree 3, scene frame, with colours that can be shown."""
    made = make_gaussians(COUNT, 3)
    return replace(made, sh=(0.2 * np.clip(made.sh, -3, 3)).astype(np.float32))


def assert_close(found, wanted, centres, scales, turns):
    """Centres in metres, scales relative, turns in radians; colours and opacities to 1/255.

    Half turns about own axes count as none: they leave a Gaussian as it is.
    """
    np.testing.assert_allclose(found.means, wanted.means, atol=centres)
    np.testing.assert_allclose(found.scales, wanted.scales, rtol=scales)
    axes = quat_to_matrix(found.quats.astype(np.float64))
    cosines = np.abs(np.sum(axes * quat_to_matrix(wanted.quats.astype(np.float64)), axis=1))
    assert np.arccos(np.clip(cosines, 0, 1)).max() < turns
    np.testing.assert_allclose(sh_to_colour(found.sh), sh_to_colour(wanted.sh), atol=1.01 / 255)
    np.testing.assert_allclose(found.opacities, wanted.opacities, atol=0.51 / 255)


# What is lost: centres (metres), scales (relative), rotations (radians), harmonics
SPZ = {v: (1e-5, 0.032, turn, 0.005) for v, turn in {2: 0.02, 3: 0.006, 4: 0.006}.items()}


@pytest.mark.parametrize("version", SPZ)
def test_gsply_reads_every_spz(tmp_path, cloud, version):
    gsply = pytest.importorskip("gsply", reason="the extra export is not installed")
    pytest.importorskip("zstandard", reason="the extra export is not installed as a whole")
    write_spz(tmp_path / "a.spz", cloud, version)
    data = (tmp_path / "a.spz").read_bytes()
    head = data[:16] if version == 4 else gzip.decompress(data)[:16]
    assert head[:4] == b"NGSP" and head[4] == version
    found = read_splats(tmp_path / "a.spz", "opencv").gaussians
    centres, scales, turns, harmonics = SPZ[version]
    assert_close(found, cloud, centres, scales, turns)
    np.testing.assert_allclose(found.sh[:, 1:], cloud.sh[:, 1:], atol=harmonics)
    theirs = gsply.read_spz(tmp_path / "a.spz")
    np.testing.assert_allclose(theirs.means, cloud.means, atol=centres)
    np.testing.assert_allclose(theirs.sh0, cloud.sh[:, 0], atol=1.01 / 255 / SH_C0)
    np.testing.assert_allclose(theirs.shN, cloud.sh[:, 1:], atol=harmonics)


def parts_of(joint, number):
    """A joint cloud as `number` clouds of COUNT."""
    return [
        type(joint)(**{k: v[COUNT * n :][:COUNT] for k, v in vars(joint).items()})
        for n in range(number)
    ]


@need_node
def test_splat_transform_reads_ply_sog_and_splat(tmp_path, cloud):
    """All three at once, as one program reads them for all."""
    wanted = convert_gaussians(cloud, "scene", "opencv")
    write_sog(tmp_path / "a.sog", wanted)
    write_dot_splat(tmp_path / "b.splat", wanted)
    write_splat_ply(tmp_path / "c.ply", wanted)
    names = [tmp_path / name for name in ("a.sog", "b.splat", "c.ply")]
    splat_transform(*names, tmp_path / "theirs.ply")
    a, b, c = parts_of(read_splat_ply(tmp_path / "theirs.ply"), 3)
    assert_close(a, wanted, 7e-5, 0.02, 0.03)
    np.testing.assert_allclose(a.sh[:, 1:], wanted.sh[:, 1:], atol=0.01)
    assert_close(b, wanted, 1e-6, 1e-5, 0.03)
    assert_close(c, wanted, 1e-6, 1e-5, 1e-3)
    np.testing.assert_allclose(c.sh, wanted.sh, atol=1e-6)


@need_node
def test_splat_transform_reads_every_spz(tmp_path, cloud):
    wanted = convert_gaussians(cloud, "scene", "opencv")
    for version in SPZ:
        write_spz(tmp_path / f"{version}.spz", cloud, version)
    splat_transform(*sorted(tmp_path.glob("*.spz")), tmp_path / "theirs.ply")
    theirs = parts_of(read_splat_ply(tmp_path / "theirs.ply"), len(SPZ))
    for found, (centres, scales, turns, harmonics) in zip(theirs, SPZ.values()):
        assert_close(found, wanted, centres, scales, turns)
        np.testing.assert_allclose(found.sh[:, 1:], wanted.sh[:, 1:], atol=harmonics)


def test_gsply_and_plyfile_read_the_ply_as_it_is(tmp_path, cloud):
    gsply = pytest.importorskip("gsply", reason="the extra export is not installed")
    write_splat_ply(tmp_path / "a.ply", cloud)
    theirs = gsply.plyread(str(tmp_path / "a.ply"))
    rows = PlyData.read(str(tmp_path / "a.ply"))["vertex"]
    rest = np.stack([rows[f"f_rest_{k}"] for k in range(45)], axis=1).reshape(-1, 3, 15)
    logits = np.log(cloud.opacities / (1 - cloud.opacities))
    for found, wanted, tolerance in (
        (theirs.means, cloud.means, 1e-6),
        (theirs.quats, cloud.quats, 1e-6),
        (theirs.scales, np.log(cloud.scales), 1e-5),
        (theirs.opacities, logits, 1e-4),
        (theirs.sh0, cloud.sh[:, 0], 1e-6),
        (theirs.shN, cloud.sh[:, 1:], 1e-6),
        (np.stack([rows[k] for k in "xyz"], axis=1), cloud.means, 1e-6),
        (np.stack([rows[f"rot_{k}"] for k in range(4)], axis=1), cloud.quats, 1e-6),
        (rest.transpose(0, 2, 1), cloud.sh[:, 1:], 1e-6),
    ):
        np.testing.assert_allclose(found, wanted, atol=tolerance)


def test_sog_comes_back(tmp_path, cloud):
    write_sog(tmp_path / "a.sog", cloud)
    found = read_sog(tmp_path / "a.sog", lambda count: None)
    assert_close(found, cloud, 7e-5, 0.02, 0.03)
    np.testing.assert_allclose(found.sh[:, 1:], cloud.sh[:, 1:], atol=0.01)
    # the format's own bound (docs/export.md): half a step of the 16 bits of each axis' logarithm
    logarithm = np.sign(cloud.means) * np.log1p(np.abs(cloud.means))
    bound = np.ptp(logarithm, axis=0) / (2 * 65535) * (1 + np.abs(cloud.means))
    assert (np.abs(found.means - cloud.means) <= 1.01 * bound + 1e-6).all() and bound.max() > 1e-5
    write_sog(tmp_path / "b.sog", cloud)
    assert (tmp_path / "a.sog").read_bytes() == (tmp_path / "b.sog").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.sog") as bundle:
        bundle.extractall(tmp_path / "apart")
    apart = read_splats(tmp_path / "apart/meta.json", "scene").gaussians
    np.testing.assert_allclose(apart.means, found.means, atol=1e-6)


def test_a_codebook_keeps_what_is_rare():
    few = np.array([[3.0, 1.0], [1.0, 2.0]])
    book, labels = codebook(few)
    np.testing.assert_array_equal(book[labels], few)
    values = np.r_[np.linspace(0, 1, 5000), 5.0]
    book, labels = codebook(values)
    assert np.abs(book[labels] - values).max() < 5 / 255 and len(book) == 256


def test_a_palette_stands_for_its_neighbours(monkeypatch):
    monkeypatch.setattr(sog, "_PALETTE", 16)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(16, 6)) * 10
    rows = np.repeat(centres, 32, axis=0) + rng.normal(0, 0.01, (512, 6))
    patterns, labels = palette(rows)
    assert len(patterns) == 16
    # halved at medians: cells of one size, as the sixteen crowds are
    assert np.abs(patterns[labels] - rows).max() < 0.1
    same, labels = palette(np.tile(centres[:5], (40, 1)))
    np.testing.assert_array_equal(same[labels], np.tile(centres[:5], (40, 1)))


def test_usd(tmp_path, cloud):
    pxr = pytest.importorskip("pxr", reason="the extra usd is not installed")
    from pxr import Usd, UsdGeom, UsdVol

    assert pxr
    clouds = [Cloud("Person 000", cloud), Cloud("Ünï", cloud)]
    write_usd(tmp_path / "a.usdc", clouds)
    stage = Usd.Stage.Open(str(tmp_path / "a.usdc"))
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    found = [prim for prim in stage.Traverse() if prim.IsA(UsdVol.ParticleField3DGaussianSplat)]
    assert [prim.GetDisplayName() for prim in found] == ["Person 000", "Ünï"]
    field = UsdVol.ParticleField3DGaussianSplat(found[1])
    quats = np.array([[q.real, *q.imaginary] for q in field.GetOrientationsAttr().Get()])
    np.testing.assert_allclose(quats, cloud.quats, atol=1e-6)
    np.testing.assert_allclose(field.GetPositionsAttr().Get(), cloud.means, atol=1e-6)
    np.testing.assert_allclose(field.GetScalesAttr().Get(), cloud.scales, rtol=1e-6)
    np.testing.assert_allclose(field.GetOpacitiesAttr().Get(), cloud.opacities, atol=1e-6)
    assert field.GetRadianceSphericalHarmonicsDegreeAttr().Get() == 3
    sh = np.array(field.GetRadianceSphericalHarmonicsCoefficientsAttr().Get()).reshape(-1, 16, 3)
    np.testing.assert_allclose(sh, cloud.sh, atol=1e-6)


def test_usd_without_its_package(tmp_path, cloud, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pxr", None)
    with pytest.raises(MissingFileError, match=r"crowdgaussian\[usd\]"):
        write_usd(tmp_path / "a.usda", [Cloud("a", cloud)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["sog", "splat", "spz", "usda"])
def test_the_command_writes_it_and_says_no_in_a_sentence(tmp_path, capsys, cloud, ending):
    if ending == "usda":
        pytest.importorskip("pxr", reason="the extra usd is not installed")
    write_splat_ply(tmp_path / "a.ply", convert_gaussians(cloud, "scene", "opencv"))
    target = tmp_path / f"b.{ending}"
    more = ["--spz-version", "2"] if ending == "spz" else []
    assert cli.main(["export", str(tmp_path / "a.ply"), "-o", str(target), *more]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    if ending != "usda":
        found = read_splats(target, "opencv").gaussians
        np.testing.assert_allclose(found.means, cloud.means, atol=1e-4)
    empty = type(cloud)(**{k: v[:0] for k, v in vars(cloud).items()})
    write_splat_ply(tmp_path / "none.ply", empty)
    assert cli.main(["export", str(tmp_path / "none.ply"), "-o", str(target)]) == 2
    assert "would hold no splat" in capsys.readouterr().err


def test_sog_of_two_people_is_one_file(tmp_path, cloud):
    both = join_gaussians([cloud, replace(cloud, means=cloud.means + 1)])
    write_sog(tmp_path / "a.sog", both)
    with zipfile.ZipFile(tmp_path / "a.sog") as bundle:
        meta = json.loads(bundle.read("meta.json"))
    assert meta["version"] == 2 and meta["count"] == 2 * COUNT
    assert meta["shN"]["count"] <= 2 * COUNT and meta["shN"]["bands"] == 3


def test_no_such_version(tmp_path, cloud):
    with pytest.raises(CrowdGaussianError, match="version 5"):
        write_spz(tmp_path / "a.spz", cloud, 5)
    assert covariances(cloud).shape == (COUNT, 3, 3)
