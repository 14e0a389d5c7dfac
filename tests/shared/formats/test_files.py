# SPDX-License-Identifier: Apache-2.0
"""Atomic files: whole, or as they were."""

import errno
import os
import resource
import signal
from contextlib import contextmanager

import pytest
from crowdgaussian_shared.errors import CrowdGaussianError, DiskFullError
from crowdgaussian_shared.formats.atomic import atomic_file, read_bytes, write_bytes


@contextmanager
def tiny_files():
    """No file may grow above 1000 bytes: a real disk-full error from the kernel.

    Not a fixture: pytest's own report, when it goes to a file, must not meet the limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_write_and_replace(tmp_path):
    target = tmp_path / "deep" / "er" / "file.bin"
    write_bytes(target, b"one")
    write_bytes(target, b"two")
    assert read_bytes(target, 3) == b"two"
    assert os.listdir(target.parent) == ["file.bin"]


def test_a_full_disk_leaves_the_old_file_whole(tmp_path):
    target = tmp_path / "file.bin"
    write_bytes(target, b"old")
    sentence = r"disk is full: .*file\.bin was not written"
    with pytest.raises(DiskFullError, match=sentence), tiny_files():
        write_bytes(target, bytes(5000))
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_an_error_at_the_last_moment_too(tmp_path, fail_writing):
    write_bytes(tmp_path / "a", b"old")
    fail_writing(errno.ENOSPC)
    with pytest.raises(DiskFullError, match="disk is full"):
        write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a") as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(CrowdGaussianError, match="cannot be written .* choose another folder"):
        write_bytes(tmp_path / "out" / "scene.json", b"{}")


def test_reading_has_a_limit(tmp_path):
    write_bytes(tmp_path / "a", bytes(11))
    with pytest.raises(CrowdGaussianError, match="larger than 10 bytes"):
        read_bytes(tmp_path / "a", 10)
    with pytest.raises(CrowdGaussianError, match="does not exist"):
        read_bytes(tmp_path / "b", 10)
