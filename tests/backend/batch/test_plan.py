# SPDX-License-Identifier: Apache-2.0
"""Which photos a batch finds, where they go, what the manifest answers for, and the queue."""

import csv
import os
import time
from dataclasses import replace

import pytest
from crowdgaussian.batch import plan as batch_plan
from crowdgaussian.batch.plan import (
    Entry,
    Manifest,
    Outcome,
    PhotoTask,
    Queue,
    find_photos,
    plan,
    shard,
)
from crowdgaussian_shared.errors import Cancelled, InputError, ResourceError

DONE = Outcome("done", 2, 2, ("Check person 1.",), 3.4)


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(path).encode())


def entry(task, state="done", **more):
    values = {"people": 2, "built": 2, "warnings": (), "seconds": 1.0, "sentence": ""}
    values |= {"attempts": 1, "host": "here", "ended": 1.0, "settings": "s"} | more
    return Entry(photo=task.photo, folder=task.folder, state=state, stamp=task.stamp, **values)


def folders(tmp_path, *places, known=()):
    found = find_photos([str(tmp_path / place) for place in places], tmp_path / "out")
    return {os.path.relpath(t.photo, tmp_path): t.folder for t in plan(found, known)}


def test_folders_are_searched_for_photos_of_any_spelling(tmp_path):
    touch(tmp_path / "in/B.JPG", tmp_path / "in/a.Png", tmp_path / "in/day two/c.webp")
    touch(tmp_path / "in/notes.txt", tmp_path / "in/._B.JPG", tmp_path / "in/.trash/d.jpg")
    assert folders(tmp_path, "in") == {
        "in/B.JPG": "B",
        "in/a.Png": "a",
        "in/day two/c.webp": "day two/c",
    }


def test_files_patterns_and_what_is_given_twice(tmp_path):
    touch(tmp_path / "in/a.jpg", tmp_path / "in/deep/b.jpg", tmp_path / "scan.raw")
    given = ("scan.raw", "in/**/*.jpg", "in", "missing.jpg")
    assert folders(tmp_path, *given) == {
        "scan.raw": "scan",
        "in/a.jpg": "a",
        "in/deep/b.jpg": "b",
        "missing.jpg": "missing",  # whose sentence the worker gives
    }


def test_links_in_circles_and_results_are_no_photos(tmp_path):
    touch(tmp_path / "in/a.jpg", tmp_path / "in/scene/photo.jpg", tmp_path / "in/out/x/photo.jpg")
    (tmp_path / "in/scene/scene.json").write_text("{}")
    (tmp_path / "in/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "in/twice.jpg").symlink_to(tmp_path / "in/a.jpg")
    (tmp_path / "in/nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    found = find_photos([str(tmp_path / "in")], tmp_path / "in/out")
    names = [os.path.relpath(path, tmp_path / "in") for path in found]
    assert names == ["a.jpg", "nowhere.jpg"]


@pytest.mark.parametrize("place", ["empty", "empty/*.jpg"])
def test_no_photos_is_one_sentence(tmp_path, place):
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "empty/readme.txt")
    with pytest.raises(InputError, match=r"There is no photo in .*; give photos"):
        find_photos([str(tmp_path / place)], tmp_path / "out")


def test_no_two_photos_share_a_folder_and_none_lies_in_another(tmp_path):
    touch(*(tmp_path / name for name in ("1/x.jpg", "1/X.png", "2/x.jpg", "3/x/y.jpg", "3/z.jpg")))
    got = folders(tmp_path, "1/x.jpg", "1/X.png", "2/x.jpg", "3")
    assert got == {
        "1/x.jpg": "x",
        "1/X.png": "X-png",
        "2/x.jpg": "x-jpg",
        "3/z.jpg": "z",
        "3/x/y.jpg": "x-y",
    }
    names = [name.casefold() for name in got.values()]
    assert len(set(names)) == len(names)
    assert not [(a, b) for a in names for b in names if b.startswith(f"{a}/")]


def test_photos_keep_their_folders_when_others_come_or_they_move(tmp_path):
    touch(tmp_path / "in/b.png", tmp_path / "in/c.jpg")
    found = find_photos([str(tmp_path / "in")], tmp_path / "out")
    known = [entry(task) for task in plan(found, ())]
    touch(tmp_path / "in/b.jpg")  # sorted before b.png
    (tmp_path / "in/c.jpg").rename(tmp_path / "in/moved.jpg")
    (tmp_path / "in/moved.jpg").rename(tmp_path / "c.jpg")
    touch(tmp_path / "in/c.gif")
    assert folders(tmp_path, "in", "c.jpg", known=known) == {
        "in/b.jpg": "b-jpg",
        "in/b.png": "b",
        "in/c.gif": "c-gif",
        "c.jpg": "c",
    }


def test_shards_share_the_photos_out():
    tasks = [PhotoTask(f"/{i}.jpg", str(i)) for i in range(10)]
    parts = [shard(tasks, number, 3) for number in (1, 2, 3)]
    assert sorted(sum(parts, []), key=tasks.index) == tasks
    assert [len(part) for part in parts] == [4, 3, 3]


def test_the_manifest_keeps_the_last_word_of_all_shards(tmp_path):
    task = PhotoTask("/in/caf\udce9, a.jpg", "a", "1 2")  # a name that is no UTF-8, with a comma
    first, second = Manifest(tmp_path, "-1-of-2"), Manifest(tmp_path, "-2-of-2")
    first.add(entry(task, "failed", ended=1.0, sentence="It hung."))
    with first.path.open("ab") as stream:
        stream.write(b'{"photo": "/in/cut off')
    second.add(entry(replace(task, folder="b"), "partly", ended=2.0))
    first.add(entry(task, warnings=("one", "two"), seconds=3.6, ended=3.0))
    read = second.read()
    assert {name: one.state for name, one in read.items()} == {"b": "partly", "a": "done"}
    assert read["a"].photo == task.photo and read["a"].warnings == ("one", "two")
    first.write_table()
    text = first.table.read_bytes().decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(text.splitlines()))
    assert rows[0]["photo"] == task.photo
    assert (rows[0]["state"], rows[0]["warnings"], rows[0]["seconds"]) == ("done", "2", "4")


def test_what_the_manifest_answers_for(tmp_path):
    touch(tmp_path / "a/scene.json")
    task = PhotoTask("/in/a.jpg", "a", "1 2")
    assert entry(task).counts(tmp_path, task, "s", False)
    assert entry(task).counts(tmp_path, task, "s", True)
    assert not entry(task).counts(tmp_path, task, "other settings", False)
    assert not entry(task).counts(tmp_path, replace(task, stamp="1 3"), "s", False)
    for state in ("failed", "partly"):
        assert entry(task, state).counts(tmp_path, task, "s", False)
        assert not entry(task, state).counts(tmp_path, task, "s", True)
    (tmp_path / "a/scene.json").unlink()
    assert not entry(task).counts(tmp_path, task, "s", False)
    assert entry(task, "failed").counts(tmp_path, task, "s", False)


class Workers:
    """A pool of one whose outcomes are written down before."""

    def __init__(self, script):
        self.script, self.task, self.started = script, None, []

    def free(self):
        return int(self.task is None)

    def start(self, task):
        self.task = task
        self.started.append(task.folder)

    def ended(self, seconds):
        task, self.task = self.task, None
        return [] if task is None else [(task, self.script[task.folder].pop(0))]

    def cancel(self):
        self.script = {name: [Outcome("cancelled")] for name in self.script}


def work_off(script, stopping=lambda: False):
    pool, told = Workers({name: [*outcomes] for name, outcomes in script.items()}), []

    def tell(task, outcome, tries):
        told.append((task.folder, outcome.state, tries))

    Queue([PhotoTask(f"/{n}", n) for n in script], pool, tell, stopping).run()
    return told, pool.started


def test_a_lost_photo_is_tried_again_behind_the_others_and_then_given_up():
    lost = Outcome("lost", sentence="The worker ended.")
    told, started = work_off({"a": [lost, DONE], "b": [lost, lost], "c": [DONE]})
    assert told == [("c", "done", 1), ("a", "done", 2), ("b", "failed", 2)]
    assert started == ["a", "b", "c", "a", "b"]


def test_a_folder_of_another_program_is_looked_at_later(monkeypatch):
    monkeypatch.setattr(batch_plan, "BUSY_PAUSE", 0.01)
    busy = Outcome("busy", sentence="x is being written")
    told, _ = work_off({"a": [busy, busy, busy, DONE], "b": [DONE]})
    assert told == [("b", "done", 1), ("a", "done", 1)]


def test_a_full_disk_ends_the_batch():
    with pytest.raises(ResourceError, match="The disk is full"):
        work_off({"a": [Outcome("unusable", sentence="The disk is full: x")], "b": [DONE]})


def test_a_stop_waits_for_those_at_work():
    told = []

    class Slow(Workers):
        def ended(self, seconds):
            if not told:
                told.append("at work")
                return []
            return super().ended(seconds)

    pool, ended = Slow({"a": [DONE], "b": [DONE]}), []
    queue = Queue([PhotoTask("/a", "a"), PhotoTask("/b", "b")], pool, ended.append, lambda: told)
    with pytest.raises(Cancelled):
        queue.run()
    assert ended == [] and pool.started == ["a"] and pool.task is None


def test_passing_over_a_thousand_finished_photos_takes_a_moment(tmp_path):
    """Nothing is opened: a line of the manifest, a stat of the photo and one of its scene."""
    photos = [tmp_path / f"in/{number:04d}.jpg" for number in range(1000)]
    touch(*photos)
    found = find_photos([str(tmp_path / "in")], tmp_path / "out")
    manifest = Manifest(tmp_path / "out")
    for task in plan(found, ()):
        touch(tmp_path / "out" / task.folder / "scene.json")
        manifest.add(entry(task))
    begun = time.process_time()
    tasks, known = plan(found, manifest.read().values()), manifest.read()
    assert all(known[t.folder].counts(tmp_path / "out", t, "s", False) for t in tasks)
    assert time.process_time() - begun < 30  # for ten times as many in 30 s; about 0.1 here
