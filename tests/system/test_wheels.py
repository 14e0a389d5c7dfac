# SPDX-License-Identifier: Apache-2.0
"""What pip is told: the extras that pages and sentences name, and one MediaPipe everywhere."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHARED = tomllib.loads((ROOT / "shared/pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


def words(*folders):
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return "".join(path.read_text(encoding="utf-8") for path in [*PAGES, *files])


def test_every_extra_that_is_named_exists():
    named = re.findall(r"crowdgaussian(?:-\*\.whl\))?\"?\[([a-z,]+)\]", words("backend", "shared"))
    named += re.findall(r"-\*\.whl\)\[([a-z,]+)\]", words())
    extras = {extra for group in named for extra in group.split(",")}
    assert {"networks", "cuda", "heic", "usd"} <= extras
    assert extras <= {*PROJECT["optional-dependencies"], *SHARED["optional-dependencies"]}


def test_both_packages_go_together():
    assert f"crowdgaussian-shared=={SHARED['version']}" in PROJECT["dependencies"]
    assert PROJECT["version"] == SHARED["version"]
    assert PROJECT["scripts"] == {"crowdgaussian": "crowdgaussian.cli.main:main"}


def test_the_same_mediapipe_is_installed_everywhere():
    """It asks for an old numpy, so pip must not follow it; what it imports is named beside it."""
    pinned = (ROOT / "requirements/mediapipe.txt").read_text(encoding="utf-8")
    version = re.search(r"^mediapipe==(\S+)", pinned, re.M)[1]
    told = re.findall(r"mediapipe==([\d.]+\d)", words("backend"))
    assert len(told) >= 3 and set(told) == {version}
    assert not any(need.startswith("mediapipe") for need in PROJECT["dependencies"])
    needs = {re.split(r"[<>=]", need)[0] for need in PROJECT["dependencies"]}
    assert {"protobuf", "attrs", "matplotlib", "opencv-python-headless"} <= needs
