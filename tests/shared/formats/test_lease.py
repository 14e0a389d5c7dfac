# SPDX-License-Identifier: Apache-2.0
"""One writer a folder: who is turned away, who takes over, and what is left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from crowdgaussian_shared.errors import BusyError, ResourceError
from crowdgaussian_shared.formats import atomic
from crowdgaussian_shared.formats.atomic import LEASE_FILE, STALE_SECONDS, only_writer

HOLD = """
import sys, time
from pathlib import Path
from crowdgaussian_shared.formats.atomic import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def write_lease(folder, age=0.0, text=None, **who):
    """A lease as another program left it."""
    folder.mkdir(exist_ok=True)
    known = {"token": "t", "host": "render7", "machine": "m", "pid": 7, "started": "1"}
    path = folder / LEASE_FILE
    path.write_text(json.dumps(known | who) if text is None else text)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_a_second_writer_gets_a_sentence_and_nothing_stays(tmp_path):
    folder = tmp_path / "new" / "scene"
    with only_writer(folder) as check:
        check()
        with (
            pytest.raises(BusyError, match=rf"being written by process {os.getpid()} on "),
            only_writer(folder),
        ):
            pass
        assert [path.name for path in folder.iterdir()] == [LEASE_FILE]
    assert list(tmp_path.iterdir()) == []


def test_what_came_into_the_folder_stays(tmp_path):
    with only_writer(tmp_path / "scene"):
        (tmp_path / "scene" / "photo.jpg").write_bytes(b"x")
    assert [path.name for path in (tmp_path / "scene").iterdir()] == ["photo.jpg"]


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="there is no /proc here")
def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "scene")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=str(holder.pid)), only_writer(tmp_path / "scene"):
            pass
        holder.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet waited for
        with only_writer(tmp_path / "scene") as check:
            check()


def test_another_computer_is_known_by_its_touches(tmp_path):
    write_lease(tmp_path, age=STALE_SECONDS - 30)
    with pytest.raises(BusyError, match=r"process 7 on render7 \(last seen 6\d s ago\)"):
        with only_writer(tmp_path):
            pass
    write_lease(tmp_path, age=STALE_SECONDS + 30)
    with only_writer(tmp_path) as check:
        check()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"token": "t", "new": 1}'])
def test_a_damaged_lease_is_free_after_a_while(tmp_path, text):
    write_lease(tmp_path, text=text)
    with pytest.raises(BusyError), only_writer(tmp_path):
        pass
    write_lease(tmp_path, age=STALE_SECONDS + 30, text=text)
    with only_writer(tmp_path):
        pass


def test_who_died_while_removing_a_lease_stops_nobody(tmp_path):
    write_lease(tmp_path, age=STALE_SECONDS + 30)
    mark = tmp_path / ".writer.t-over.tmp"
    mark.touch()
    with pytest.raises(BusyError, match="Several"), only_writer(tmp_path):
        pass
    then = time.time() - STALE_SECONDS - 30
    os.utime(mark, (then, then))
    with only_writer(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_of_many_who_find_a_stale_lease_one_goes_on(tmp_path, monkeypatch, links):
    if not links:

        def refused(*_):
            raise PermissionError(1, "no links")

        monkeypatch.setattr(atomic.os, "link", refused)
    for turn in range(10):
        folder = tmp_path / str(turn)
        write_lease(folder, age=STALE_SECONDS + 30)
        start, done, inside, most = threading.Barrier(6), threading.Barrier(6), [], []

        def take(folder=folder, start=start, done=done, inside=inside, most=most):
            start.wait()
            try:
                with only_writer(folder):
                    inside.append(1)
                    most.append(len(inside))
                    done.wait()
            except BusyError:
                done.wait()

        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1]


def test_a_program_that_slept_is_told_that_another_took_over(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "BEAT_SECONDS", 0.01)
    with only_writer(tmp_path) as check:
        path = write_lease(tmp_path)  # by somebody else
        with pytest.raises(ResourceError, match="was taken over by another program"):
            for _ in range(500):
                check()
                time.sleep(0.01)
    assert path.is_file()  # theirs stays


def test_the_lease_is_touched_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "BEAT_SECONDS", 0.01)
    with only_writer(tmp_path) as check:
        os.utime(tmp_path / LEASE_FILE, (1.0, 1.0))
        for _ in range(500):
            if (tmp_path / LEASE_FILE).stat().st_mtime > 1.0:
                break
            time.sleep(0.01)
        assert time.time() - (tmp_path / LEASE_FILE).stat().st_mtime < 60
        check()
