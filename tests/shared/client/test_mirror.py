# SPDX-License-Identifier: Apache-2.0
"""The mirrored folder: chunks in any order, broken off anywhere, and valid at every moment."""

import random
import shutil
from collections import namedtuple

import crowdgaussian_shared.client.mirror as client_mirror
import numpy as np
import pytest
from crowdgaussian_shared.client.mirror import Mirror
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol.messages import CHUNK_BYTES, CREDIT, Artifact
from crowdgaussian_shared.scene.folder import SCENE_FILE, SceneFolder
from crowdgaussian_shared.scene.schema import PersonEntry, PhotoInfo, SceneInfo, hash_bytes


def artifact(name, data):
    return Artifact(name, len(data), hash_bytes(data))


def blob(seed, size):
    return np.random.default_rng(seed).bytes(size)


def answer(mirror, contents, found):
    """What a server does with one request."""
    download, offset = found
    name = download.artifact.name
    data = contents[name, download.artifact.blake2b]
    mirror.add_chunk(download, offset, len(data), data[offset : offset + CHUNK_BYTES])


def fetch_all(mirror, contents):
    while found := mirror.next_request():
        answer(mirror, contents, found)


def scenes(path, people=3):
    """A backend's run as the wire sees it: events, each a list of (name, bytes)."""
    info = SceneInfo(PhotoInfo("", 4, 3, "a.jpg"), people=tuple([PersonEntry()] * people))
    folder = SceneFolder.create(path, blob(0, 2 * CHUNK_BYTES + 17), ".jpg", info)
    yield [("photo.jpg", folder.photo_path.read_bytes()), _scene(folder)]
    for index in range(people):
        folder.write_mask(index, np.zeros((3, 4), bool))
    yield [
        (f"people/{i:03d}/mask.png", folder.person_file(i, "mask").read_bytes())
        for i in range(people)
    ] + [_scene(folder)]
    for index in range(people):
        name = f"people/{index:03d}/splats.ply"
        data = blob(index, CHUNK_BYTES + index)
        (path / name).write_bytes(data)
        folder._name_file(index, "splats", "splats.ply")
        folder.update_person(index, state="done", files={"fit": f"people/{index:03d}/fit.npz"})
        yield [(name, data), _scene(folder)]


def _scene(folder):
    return SCENE_FILE, (folder.path / SCENE_FILE).read_bytes()


Run = namedtuple("Run", "events contents newest")


@pytest.fixture
def run(tmp_path):
    events = list(scenes(tmp_path / "server"))
    contents = {(name, hash_bytes(data)): data for event in events for name, data in event}
    newest = {name: data for event in events for name, data in event}
    return Run([[artifact(*item) for item in event] for event in events], contents, newest)


def check_valid(folder):
    """What scene.json names is there."""
    if SceneFolder.exists(folder):
        assert not Mirror(folder)._missing(SceneFolder.open(folder).info)


@pytest.mark.parametrize("seed", range(12))
def test_any_order_and_any_break_give_the_same_folder(run, tmp_path, seed):
    rng = random.Random(seed)
    out = tmp_path / "out"
    mirror, waiting, told, settled, done = Mirror(out), [], 0, 0, 0
    while told < len(run.events) or waiting or mirror.pending:
        action = rng.random()
        if action < 0.1 and told < len(run.events):
            told += 1
            mirror.announce(told, run.events[told - 1])
        elif action < 0.6 and len(waiting) < CREDIT:
            if found := mirror.next_request():
                waiting.append(found)
        elif action < 0.95 and waiting:
            answer(mirror, run.contents, waiting.pop(rng.randrange(len(waiting))))
        elif action > 0.99:
            waiting.clear()
            mirror.rewind()
        elif action > 0.98:
            waiting.clear()
            settled = mirror.settled
            mirror.close()
            mirror = Mirror(out, settled)
            assert mirror.settled in (0, settled)
            told = mirror.settled
        check_valid(out)
        states = (
            [p.state for p in SceneFolder.open(out).info.people] if SceneFolder.exists(out) else []
        )
        done = max(done, states.count("done"))
    assert done == 3 and mirror.whole() and mirror.settled == len(run.events)
    assert {name: (out / name).read_bytes() for name in run.newest} == run.newest


def test_people_appear_one_by_one(run, tmp_path):
    mirror, seen = Mirror(tmp_path / "out"), []
    for seq, event in enumerate(run.events, 1):
        mirror.announce(seq, event)
        fetch_all(mirror, run.contents)
        seen.append([p.state for p in SceneFolder.open(mirror.folder).info.people].count("done"))
    assert seen == [0, 0, 1, 2, 3] and mirror.renewals == 5


def test_people_appear_while_more_files_wait(run, tmp_path):
    mirror, seen = Mirror(tmp_path / "out"), set()
    for seq, event in enumerate(run.events, 1):
        mirror.announce(seq, event)
    while found := mirror.next_request():
        answer(mirror, run.contents, found)
        if SceneFolder.exists(mirror.folder):
            people = SceneFolder.open(mirror.folder).info.people
            seen.add([p.state for p in people].count("done"))
    assert seen == {0, 1, 2, 3}


def test_a_later_process_goes_on_from_the_part(run, tmp_path):
    first = Mirror(tmp_path / "out")
    first.announce(1, run.events[0])
    answer(first, run.contents, first.next_request())
    first.close()
    second = Mirror(tmp_path / "out", first.settled)
    second.announce(1, run.events[0])
    _, offset = second.next_request()
    assert offset == CHUNK_BYTES
    second.close()


def test_a_damaged_part_is_fetched_anew(run, tmp_path):
    first = Mirror(tmp_path / "out")
    first.announce(1, run.events[0])
    answer(first, run.contents, first.next_request())
    first.close()
    (part,) = (tmp_path / "out/.wire").glob("*.part")
    part.write_bytes(b"\0" * part.stat().st_size)
    second = Mirror(tmp_path / "out")
    second.announce(1, run.events[0])
    fetch_all(second, run.contents)
    assert second.whole()
    assert (tmp_path / "out/photo.jpg").read_bytes() == run.newest["photo.jpg"]


def test_what_was_lost_on_the_way_is_asked_for_again(run, tmp_path):
    mirror = Mirror(tmp_path / "out")
    mirror.announce(1, run.events[0])
    asked = [mirror.next_request()[1] for _ in range(3)]
    assert asked == [0, CHUNK_BYTES, 2 * CHUNK_BYTES]
    mirror.rewind()
    answer(mirror, run.contents, mirror.next_request())
    mirror.rewind()
    assert mirror.next_request()[1] == CHUNK_BYTES
    mirror.close()


def test_whole_parts_need_no_request(run, tmp_path):
    mirror = Mirror(tmp_path / "out")
    mirror.announce(1, run.events[0])
    download, _ = mirror.next_request()
    mirror.close()
    download.path.write_bytes(run.newest["photo.jpg"])
    second = Mirror(tmp_path / "out")
    second.announce(1, run.events[0])
    found = second.next_request()
    assert found[0].artifact.name == SCENE_FILE
    answer(second, run.contents, found)
    assert second.whole()


def test_two_files_of_the_same_content(tmp_path):
    data = blob(1, CHUNK_BYTES + 5)
    mirror = Mirror(tmp_path / "out")
    mirror.announce(1, [artifact("a", data), artifact("b", data), artifact("empty", b"")])
    contents = {(name, hash_bytes(data)): data for name in "ab"}
    found = [mirror.next_request() for _ in range(4)]
    for one in reversed(found):
        answer(mirror, contents, one)
    assert mirror.next_request() is None and mirror.settled == 1
    assert all((tmp_path / "out" / name).read_bytes() == data for name in "ab")
    assert (tmp_path / "out/empty").read_bytes() == b""


def test_a_version_that_is_gone_waits_for_a_newer_one(run, tmp_path):
    mirror = Mirror(tmp_path / "out")
    mirror.announce(1, run.events[0])
    for _ in range(3):
        answer(mirror, run.contents, mirror.next_request())
    mirror.gone(mirror.next_request()[0])
    assert mirror.pending == 0 and not mirror.whole()
    mirror.announce(2, run.events[1])
    fetch_all(mirror, run.contents)
    assert mirror.whole() and mirror.settled == 2


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a\\b", "C:/a", "", ".wire/job.json"])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(CrowdGaussianError, match="The server's file name"):
        Mirror(tmp_path / "out").announce(1, [artifact(name, b"x")])


def test_a_link_that_leads_out_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/people").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CrowdGaussianError, match="leads out"):
        Mirror(tmp_path / "out").announce(1, [artifact("people/000/mask.png", b"x")])


def test_a_hash_that_is_none_is_refused(tmp_path):
    with pytest.raises(CrowdGaussianError, match="proper hash"):
        Mirror(tmp_path / "out").announce(1, [Artifact("a", 1, "../" + "a" * 61)])


def test_no_room_is_said_before_anything_is_fetched(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100 << 20)
    monkeypatch.setattr(client_mirror.shutil, "disk_usage", lambda path: usage)
    mirror = Mirror(tmp_path / "out")
    mirror.announce(1, [Artifact("a", 30 << 20, "ab" * 32)])
    with pytest.raises(CrowdGaussianError, match="100 MiB left"):
        mirror.announce(2, [Artifact("b", 10 << 20, "cd" * 32)])


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(client_mirror, "MAX_FILES", 3)
    mirror = Mirror(tmp_path / "out")
    with pytest.raises(CrowdGaussianError, match="at most 3 files"):
        mirror.announce(1, [artifact(str(i), b"x") for i in range(4)])


def test_what_a_killed_client_left_half_written_goes(tmp_path):
    whole = [tmp_path / "people/000/.note.tmp", tmp_path / ".wire/ab.part"]
    half = [tmp_path / ".scene.json.adf665dd.tmp", tmp_path / ".wire/.job.json.8e5eadc2.tmp"]
    for path in (*whole, *half):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    Mirror(tmp_path)
    assert [path.exists() for path in (*whole, *half)] == [True, True, False, False]
