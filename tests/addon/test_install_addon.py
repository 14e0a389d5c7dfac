# SPDX-License-Identifier: Apache-2.0
"""install_addon.py: zips that are whole and valid, a clean install, and clear refusals."""

import ast
import io
import os
import re
import subprocess
import sys
import tomllib
import zipfile

import bpy
import numpy as np
import pytest
from _support.blender.extension import ROOT, install_addon

MANIFEST = tomllib.loads((ROOT / "addon/crowdgaussian_addon/blender_manifest.toml").read_text())


def test_manifest_keeps_the_platform_s_rules():
    assert MANIFEST["id"] == "crowdgaussian" and "Blender" not in MANIFEST["name"]
    assert MANIFEST["license"] == ["SPDX:GPL-3.0-or-later"]
    assert set(MANIFEST["permissions"]) == {"network", "files"}
    assert "arxiv.org" not in MANIFEST.get("website", "")  # a page with help and issues, or none
    for text in (MANIFEST["tagline"], *MANIFEST["permissions"].values()):
        assert len(text) <= 64 and text[-1].isalnum()


def test_versions_agree():
    shared = tomllib.loads((ROOT / "shared/pyproject.toml").read_text())["project"]["version"]
    init = (ROOT / "addon/crowdgaussian_addon/__init__.py").read_text()
    own = re.search(r'__version__ = "(.+)"', init)[1]
    assert MANIFEST["version"] == own == shared


def test_says_what_was_done(built):
    _, path, said = built
    assert f"Built {path}, which Blender finds valid" in said
    assert "user_default/crowdgaussian" in said and "docs/scripting.md" in said


def test_zip_holds_the_wheels_and_fits_this_blender(built):
    archive = zipfile.ZipFile(built[1])
    manifest = tomllib.loads(archive.read("blender_manifest.toml").decode())
    names = {wheel.removeprefix("./") for wheel in manifest["wheels"]}
    assert names <= set(archive.namelist()) and len(names) == 2
    old = bpy.app.version < (5, 1)
    assert any(f"pyzmq-27.3.0-{'cp311-cp311' if old else 'cp312-abi3'}" in name for name in names)
    assert f"wheels/plyfile-{'1.1.3' if old else '1.1.5'}-py3-none-any.whl" in names
    low = tuple(map(int, manifest["blender_version_min"].split(".")))
    high = tuple(map(int, manifest.get("blender_version_max", "99.0.0").split(".")))
    assert low <= bpy.app.version < high
    assert not any("__pycache__" in name or name == "blend.py" for name in archive.namelist())
    assert "GNU GENERAL PUBLIC LICENSE" in archive.read("LICENSE").decode()


def test_plyfile_comes_with_its_licence_and_fits_this_numpy(built):
    archive = zipfile.ZipFile(built[1])
    name = next(n for n in archive.namelist() if "plyfile" in n)
    wheel = zipfile.ZipFile(io.BytesIO(archive.read(name)))
    licence = next(n for n in wheel.namelist() if n.endswith("COPYING"))
    assert "GNU GENERAL PUBLIC LICENSE" in wheel.read(licence).decode()
    metadata = wheel.read(next(n for n in wheel.namelist() if n.endswith("METADATA"))).decode()
    (least,) = re.findall(r"^Requires-Dist: numpy>=(\d+)\.(\d+)$", metadata, re.MULTILINE)
    assert tuple(map(int, least)) <= tuple(map(int, np.__version__.split(".")[:2]))


def test_other_layouts_are_read_with_what_was_installed(built, tmp_path):
    """Blender's own Python and numpy, and of packages only the extension's."""
    (tmp_path / "a.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nend_header\n1.5\n-2\n"
    )
    (packages,) = {path.parent for path in built[0].rglob("plyfile.py")}
    extension = built[0] / "extensions/user_default/crowdgaussian"
    code = (
        "import sys, pathlib; from crowdgaussian_shared.formats.ply import read_vertices as read; "
        "print(read(pathlib.Path(sys.argv[1]))['x'].tolist(), sys.modules['plyfile'].__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.ply")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{extension}{os.pathsep}{packages}"},
    )
    assert done.stdout.strip() == f"[1.5, -2.0] {packages / 'plyfile.py'}", done.stderr


def test_shared_is_inside_and_imports_stay_inside(built):
    """Every import of the zip's modules is relative and there, or of Blender and its wheels."""
    archive = zipfile.ZipFile(built[1])
    names = set(archive.namelist())
    for path in (ROOT / "shared/crowdgaussian_shared").rglob("*.py"):
        assert archive.read(str(path.relative_to(ROOT / "shared"))) == path.read_bytes()
    assert "Apache License" in archive.read("crowdgaussian_shared/LICENSE").decode()
    modules = [name for name in names if name.endswith(".py")]
    relative = 0
    for name in modules:
        for node in ast.walk(ast.parse(archive.read(name))):
            if isinstance(node, ast.Import):
                assert not any("crowdgaussian" in alias.name for alias in node.names), name
            elif isinstance(node, ast.ImportFrom):
                assert node.level or not node.module.startswith("crowdgaussian"), name
                if node.level and node.module:
                    home = name.split("/")[: -node.level]
                    path = "/".join([*home, *node.module.split(".")])
                    assert {f"{path}.py", f"{path}/__init__.py"} & names, (name, node.module)
                    relative += "crowdgaussian_shared" in node.module
    assert relative > 100


def test_twice_is_the_same_zip_and_no_trouble(built, tmp_path):
    """Again where it is installed; the module leaves the user's preferences alone."""
    profile, path, _ = built
    preferences = profile / "config/userpref.blend"
    preferences.parent.mkdir(exist_ok=True)
    before = preferences.read_bytes() if preferences.exists() else None
    preferences.write_bytes(b"the user's")
    try:
        done = install_addon(profile, tmp_path / "dist")
        assert done.returncode == 0, done.stderr
        assert preferences.read_bytes() == b"the user's"
    finally:
        preferences.unlink()
        if before is not None:
            preferences.write_bytes(before)
    (again,) = (tmp_path / "dist").glob("*.zip")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "path, words",
    [
        ("/there/is/nothing", "cannot be run"),
        ("/bin/true", "neither a Blender nor a Python with bpy"),
    ],
)
def test_wrong_paths_are_refused_in_one_sentence(path, words, tmp_path):
    done = install_addon(tmp_path, tmp_path / "dist", "--blender", path)
    assert done.returncode == 2 and words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_python_without_bpy_is_refused(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    done = install_addon(tmp_path, tmp_path / "dist", "--blender", str(python))
    assert done.returncode == 2 and "neither a Blender nor a Python with bpy" in done.stderr


def test_addon_breaks_no_rule_of_the_platform():
    """No pip, no sys.path, no own sockets; what blend.py does stays out of the zip."""
    for path in (ROOT / "addon/crowdgaussian_addon").rglob("*.py"):
        if path.name != "blend.py":
            text = path.read_text()
            assert not re.search(r"sys\.path|\bpip\b|urllib|requests|import zmq", text), path
