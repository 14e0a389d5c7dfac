# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the pipeline's tests with stand-in stages."""

import pytest
from _support.refining_running import write_weights
from crowdgaussian.pipeline import checkpoint


@pytest.fixture
def no_model_files(monkeypatch):
    """No stage asks for files; a refiner is told of its own."""
    monkeypatch.setattr(checkpoint, "files_for", lambda config: [])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("refiner") / "tiny.safetensors")
