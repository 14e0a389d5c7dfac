# SPDX-License-Identifier: Apache-2.0
"""The batch as a user runs it: real processes, stand-in stages, and what goes wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest
from _support.batch_stages import (
    BUG,
    DIARY,
    HANG,
    NOBODY,
    POISON,
    SLOW,
    STAGES,
    WHOLE,
    load,
    make_photo,
)
from _support.running import crowdgaussian
from crowdgaussian.batch.local import LocalPool, Order, PhotoWorker, end_process_tree
from crowdgaussian.batch.plan import PhotoTask
from crowdgaussian.pipeline.config import Job, configured
from crowdgaussian.pipeline.reconstruct import reconstruct
from crowdgaussian_shared.errors import ResourceError
from crowdgaussian_shared.formats.atomic import LEASE_FILE, only_writer
from crowdgaussian_shared.scene.folder import SceneFolder

QUICK = {"stages.refiner": "none"}
TESTS = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def diary(tmp_path, monkeypatch):
    """What the stages write down; and where the workers find them."""
    path = tmp_path / "diary"
    path.touch()
    monkeypatch.setenv(DIARY, str(path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    paths = [str(TESTS), *filter(None, sys.path)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(dict.fromkeys(paths)))
    return path


def arguments(tmp_path, *more):
    options = ("--set", "stages.refiner=none", "--stages", STAGES)
    return ("batch", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *options, *more)


def contents(folder):
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "timings.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def states(tmp_path):
    lines = (tmp_path / "out/batch.jsonl").read_text().splitlines()
    return {entry["folder"]: entry["state"] for entry in map(json.loads, lines)}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(true, seconds=120):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_bad_photos_are_named_and_stop_nobody(tmp_path, diary):
    for number in range(3):
        make_photo(tmp_path / f"in/whole{number}.png", WHOLE, people=3, seed=number)
    for name, kind in (("bug", BUG), ("x_hang", HANG), ("z_poison", POISON)):
        make_photo(tmp_path / f"in/{name}.JPG.png", kind)
    make_photo(tmp_path / "in/nobody.png", NOBODY)
    (tmp_path / "in/broken.jpg").write_bytes(b"no photo")
    done = crowdgaussian(*arguments(tmp_path, "--limit", "6"))
    assert done.returncode == 1, done.stderr
    good = {"whole0", "whole1", "whole2"}
    bad = {"bug.JPG", "x_hang.JPG", "z_poison.JPG", "nobody", "broken"}
    assert states(tmp_path) == {**dict.fromkeys(good, "done"), **dict.fromkeys(bad, "failed")}
    for sentence in (
        "An unexpected ValueError ended the photo (a bug)",
        "It had not ended after 6 s and was stopped",
        "The worker ended with code 9",
        "No person was found in",
        "is not an image that can be read",
    ):
        assert sentence in done.stdout
    assert "3 done, 5 failed" in done.stdout
    notes = diary.read_text()
    assert not alive(re.search(r"child (\d+)", notes)[1])  # what the hanging photo had started
    assert notes.count("load") <= 3  # one, and one for each worker that ended
    plain = tmp_path / "plain"
    config = configured("open", QUICK)
    for name in ("whole0", "whole1", "whole2"):
        reconstruct(Job(tmp_path / f"in/{name}.png", plain / name, config), make_stages=load)
        assert contents(plain / name) == contents(tmp_path / "out" / name)
    again = crowdgaussian(*arguments(tmp_path))  # starts nothing
    assert again.returncode == 1 and "8 photos, 8 of them passed over" in again.stdout
    assert diary.read_text().count("load") == notes.count("load") + 3


@pytest.mark.slow
def test_ctrl_c_leaves_valid_folders_and_the_same_command_goes_on(tmp_path, diary):
    for number in range(2):
        make_photo(tmp_path / f"in/{number}.png", SLOW, people=4, seed=number)
    command = [sys.executable, "-m", "crowdgaussian", *arguments(tmp_path, "--workers", "1")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        avatar = tmp_path / "out/0/people/000/avatar.npz"
        wait_until(avatar.exists)
        run.send_signal(signal.SIGINT)
        told = run.communicate()[0]
    assert run.returncode == 130 and "Stopping after this step" in told
    folder = SceneFolder.open(tmp_path / "out/0")
    assert [person.state for person in folder.info.people].count("done") in (1, 2)
    assert not (tmp_path / "out/0" / LEASE_FILE).exists() and not (tmp_path / "out/1").exists()
    before = avatar.stat().st_mtime_ns
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:  # the whole program is killed
        wait_until((tmp_path / "out/0/people/002/avatar.npz").exists)
        worker = int(re.findall(r"load (\d+)", diary.read_text())[-1])
        assert alive(worker)
        run.kill()
    wait_until(lambda: not alive(worker), 10)
    done = crowdgaussian(*arguments(tmp_path))
    assert done.returncode == 0 and states(tmp_path) == {"0": "done", "1": "done"}
    assert avatar.stat().st_mtime_ns == before


def task_of(photo, folder="a"):
    return PhotoTask(str(photo), folder, "1 2")


def test_models_are_loaded_once_and_a_busy_folder_is_left_alone(tmp_path, diary):
    order = Order(str(tmp_path / "out"), "open", QUICK, stages=STAGES)
    worker = PhotoWorker(order, threading.Event())
    photos = [make_photo(tmp_path / f"{seed}.png", seed=seed) for seed in range(3)]
    ends = [worker.run(task_of(photo, photo.stem)) for photo in photos]
    assert [(end.state, end.people, end.built, end.worked) for end in ends] == [
        ("done", 2, 2, True)
    ] * 3
    assert diary.read_text().count("load") == 1
    again = worker.run(task_of(photos[0], "0"))
    assert (again.state, again.people, again.worked) == ("done", 2, False)
    with only_writer(tmp_path / "out/3"):
        assert worker.run(task_of(photos[0], "3")).state == "busy"


def test_two_batches_on_one_folder_do_no_photo_twice(tmp_path, monkeypatch):
    """The second finds what the first has done, or is doing, by its lease."""
    monkeypatch.setattr("crowdgaussian.batch.plan.BUSY_PAUSE", 0.05)
    for number in range(6):
        make_photo(tmp_path / f"in/{number}.png", seed=number)
    order = Order(str(tmp_path / "out"), "open", QUICK, stages=STAGES)
    worked, ends = [], []

    def batch():
        worker = PhotoWorker(order, threading.Event())
        left = [task_of(tmp_path / f"in/{number}.png", str(number)) for number in range(6)]
        while left:
            task = left.pop(0)
            end = worker.run(task)
            if end.state == "busy":
                left.append(task)
                time.sleep(0.02)
            else:
                ends.append(end.state)
                worked.extend([task.folder] * end.worked)

    threads = [threading.Thread(target=batch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == ["done"] * 12 and sorted(worked) == [str(number) for number in range(6)]


@pytest.mark.parametrize(
    "more, sentence",
    [
        (("--shard", "0/4"), "'--shard 0/4' is no part; write I/N with I from 1 to N."),
        (("--shard", "x"), "is no part"),
        (("--workers", "-1"), "--workers must be at least 0."),
        (("--limit", "nan"), "--limit must be at least 1."),
        (("--preset", "closed"), "There is no preset 'closed'"),
        (("--set", "avatar.gaussian=1"), "There is no setting"),
    ],
)
def test_bad_options_are_one_sentence(tmp_path, more, sentence):
    make_photo(tmp_path / "in/a.png")
    done = crowdgaussian(*arguments(tmp_path, *more))
    assert done.returncode == 2 and sentence in done.stderr and len(done.stderr.splitlines()) == 1


def ray_module(version="2.60.0", error=None):
    """Ray as far as connecting goes, which then fails."""

    def init(**_):
        raise error

    made = ModuleType("ray")
    made.__version__, made.init, made.exceptions = version, init, ModuleType("ray.exceptions")
    return {"ray": made, "ray.exceptions": made.exceptions}


MISMATCH = "Version mismatch: The cluster was started with:\n    Ray: 2.61.0\n    Python: 3.11.7"


@pytest.mark.parametrize(
    "address, modules, sentence",
    [
        ("auto", {"ray": None}, "Ray is not installed: pip install"),
        ("auto", ray_module("2.9.3"), "Ray 2.9.3 is too old, 2.60 or newer is needed"),
        ("gpu0", ray_module(), "'gpu0' is no address of a Ray cluster"),
        ("ray://gpu0:10001", ray_module(), "is no address of a Ray cluster"),
        ("127.0.0.1:1", ray_module(), "There is no Ray cluster at 127.0.0.1:1; start one by"),
        ("auto", ray_module(error=ConnectionError()), "There is no Ray cluster on this computer"),
        ("auto", ray_module(error=RuntimeError(MISMATCH)), "other versions; install the same"),
        ("auto", ray_module(error=RuntimeError("a\nb")), "could not be reached or started: a b."),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_one_sentence(
    tmp_path, monkeypatch, address, modules, sentence
):
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    make_photo(tmp_path / "in/a.png")
    done = crowdgaussian(*arguments(tmp_path, "--ray", address))
    assert done.returncode == 2 and sentence in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_folder_without_photos_is_one_sentence(tmp_path):
    (tmp_path / "in").mkdir()
    done = crowdgaussian(*arguments(tmp_path))
    assert done.returncode == 2 and "There is no photo in" in done.stderr
    assert not (tmp_path / "out").exists()


def test_models_that_cannot_be_loaded_end_the_batch(tmp_path):
    make_photo(tmp_path / "in/a.png")
    done = crowdgaussian(*arguments(tmp_path, "--set", "people.boxes=missing"))
    assert done.returncode == 2 and "The model is not there." in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_workers_that_never_start_end_the_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pool = LocalPool(Order(str(tmp_path), "open", {}), 1, 5.0)
    with pytest.raises(ResourceError, match="ended with code 1 .* 3 in a row"):
        for _ in range(200):
            pool.free()
            pool.ended(0.1)
    pool.close()


def test_a_process_ends_with_what_it_started_in_other_sessions():
    code = "import subprocess; p=subprocess.Popen(['sleep','60'],start_new_session=True)"
    code += "; print(p.pid, flush=True); p.wait()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        child = int(process.stdout.readline())
        assert alive(child)
        end_process_tree(process.pid)
    wait_until(lambda: not alive(child), 10)
