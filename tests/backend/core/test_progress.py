# SPDX-License-Identifier: Apache-2.0
"""What a process prepares before it loads anything heavy."""

import os
from pathlib import Path

import pytest
from crowdgaussian.core.progress import prepare_process


@pytest.fixture
def environment(monkeypatch):
    """One to change: what is set is taken back."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("NUMBA_CACHE_DIR", None)
    return os.environ


def test_kernels_are_kept_where_they_can_be(environment):
    prepare_process()
    assert "NUMBA_CACHE_DIR" not in environment


def test_a_read_only_install_gets_a_place_of_its_own(environment, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    prepare_process()
    place = Path(environment["NUMBA_CACHE_DIR"])
    assert place.is_dir() and place.stat().st_mode & 0o077 == 0, "nobody else may write there"


def test_the_users_choice_stands(environment, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    environment["NUMBA_CACHE_DIR"] = "/somewhere"
    prepare_process()
    assert environment["NUMBA_CACHE_DIR"] == "/somewhere"
