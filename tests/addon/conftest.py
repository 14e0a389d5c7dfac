# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the tests that run inside Blender's Python module."""

import os
import tempfile
from pathlib import Path

import pytest

if "BLENDER_USER_RESOURCES" not in os.environ:  # or Blender writes to the user's own folders
    _resources = tempfile.TemporaryDirectory(prefix="crowdgaussian-blender-")
    os.environ["BLENDER_USER_RESOURCES"] = _resources.name
bpy = pytest.importorskip("bpy", reason="no bpy module; run these in .venv/blender-4.5")

from _support.blender.blender_people import make_avatar, make_camera, write_scene  # noqa: E402
from _support.blender.extension import install_addon  # noqa: E402


@pytest.fixture
def empty_blender():
    """A Blender file without any data."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return bpy.context.scene


@pytest.fixture
def avatars():
    """Two people with different seeds: looks, places and poses."""
    return [make_avatar(1500, seed=seed) for seed in (0, 1)]


@pytest.fixture
def scene_folder(tmp_path: Path, avatars):
    """A scene folder with both of them."""
    return write_scene(tmp_path / "out", avatars, make_camera())


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> tuple[Path, Path, str]:
    """The extension built and installed once: profile, zip, and what the script said."""
    profile, out = tmp_path_factory.mktemp("profile"), tmp_path_factory.mktemp("dist")
    done = install_addon(profile, out)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.zip")
    return profile, path, done.stdout


@pytest.fixture(scope="session")
def installed(built) -> Path:
    """A clean Blender profile with the extension installed from its zip."""
    return built[0]
