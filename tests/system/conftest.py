# SPDX-License-Identifier: Apache-2.0
"""The main job, run once per session through the command line and shared by the system tests."""

import pytest
from _support.running import QUICK, SAMPLE, photo_or_skip, reconstruct


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory):
    """The bundled sample at reduced quality."""
    return reconstruct(SAMPLE, tmp_path_factory.mktemp("sample") / "out", *QUICK)


@pytest.fixture(scope="session")
def park_run(tmp_path_factory):
    """The six people in the park, at full quality but for refinement, which the sample has."""
    return reconstruct(
        photo_or_skip("park_six.jpg"),
        tmp_path_factory.mktemp("park") / "out",
        "--set",
        "stages.refiner=none",
    )
