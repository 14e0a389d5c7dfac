# SPDX-License-Identifier: Apache-2.0
"""What a process prepares before it loads anything heavy, and what reports do on their way."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from crowdgaussian.core import progress
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


def test_memory_is_given_back_at_every_new_step(monkeypatch):
    told, trimmed = [], []
    monkeypatch.setattr(progress, "_malloc_trim", lambda: lambda _: trimmed.append(len(told)) or 0)
    report = progress.freeing(told.append)
    steps = [
        progress.Progress("people", 0.0),
        progress.Progress("people", 0.5),
        progress.Progress("people", 0.6, message="looking for the ground"),
        progress.Progress("avatars", 0.0, 0),
        progress.Progress("avatars", 0.4, 0),
        progress.Progress("avatars", 0.5, 1),
    ]
    for step in steps:
        report(step)
    assert told == steps
    assert trimmed == [0, 2, 3, 5]


FREED = """
from crowdgaussian.core.progress import Progress, _malloc_trim, freeing
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
blocks = [bytearray(64 << 10) for _ in range(1600)]
last = bytearray(64 << 10)  # on top of the heap, so that nothing below it is given back by itself
full = resident()
del blocks
freeing(lambda step: None)(Progress("masks", 0.0))
print(full - resident(), _malloc_trim()(0) >= 0)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is given back by glibc only")
def test_memory_goes_back_to_the_system():
    told = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert int(told.stdout.split()[0]) > 50 << 20
