# SPDX-License-Identifier: Apache-2.0
"""The main job through the command line, once for all tests of the file that looks at it."""

import pytest
from _support.running import QUICK, SAMPLE, photo_or_skip, reconstruct


@pytest.fixture(scope="module")
def sample_run(tmp_path_factory):
    """The bundled sample at reduced quality."""
    return reconstruct(SAMPLE, tmp_path_factory.mktemp("sample") / "out", *QUICK)


@pytest.fixture(scope="module")
def park_run(tmp_path_factory):
    """The six people in the park, not refined, which the sample is."""
    return reconstruct(
        photo_or_skip("park_six.jpg"),
        tmp_path_factory.mktemp("park") / "out",
        *("--gaussians", "8000"),
        *("--set", "avatar.max_crop_px=400"),
        *("--set", "stages.refiner=none"),
    )
