# SPDX-License-Identifier: Apache-2.0
"""The service's parts by themselves: sizes from headers, ages, places, keys of results."""

import io
import random
import sqlite3
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from crowdgaussian.pipeline.config import preset, with_setting
from crowdgaussian.service.jobs import Jobs
from crowdgaussian.service.results import Folders
from crowdgaussian.service.settings import ServiceSettings, parse_address, with_number
from crowdgaussian.service.store import JobRow, Store
from crowdgaussian.service.submit import photo_size, plain_name, result_key
from crowdgaussian.service.worker import Announcer
from crowdgaussian.service.workers import socket_folder
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol.messages import Artifact, Progress
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import PhotoInfo, SceneInfo
from PIL import Image

FORMATS = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("GIF", {}),
    ("BMP", {}),
]


def encoded(kind, options, size=(173, 94)):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000  # pushes a JPEG's frame header back
    more = {"exif": exif, "icc_profile": bytes(150_000)} if kind == "JPEG" else {}
    Image.new("RGB", size, (10, 200, 30)).save(buffer, kind, **options, **more)
    return buffer.getvalue()


@pytest.mark.parametrize("kind, options", FORMATS)
def test_the_size_is_read_from_the_header(tmp_path, kind, options):
    path = tmp_path / "photo"
    path.write_bytes(encoded(kind, options))
    assert photo_size(path) == (173, 94)


def test_a_webp_with_transparency(tmp_path):
    Image.new("RGBA", (80, 70), (1, 2, 3, 4)).save(tmp_path / "a.webp", exif=Image.Exif())
    assert photo_size(tmp_path / "a.webp") == (80, 70)


def test_damaged_headers_are_none_or_numbers(tmp_path):
    rng = random.Random(3)
    path = tmp_path / "photo"
    heads = [encoded(*chosen, size=(9, 8))[:400] for chosen in FORMATS]
    for round_ in range(600):
        data = bytearray(heads[round_ % len(heads)])
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(min(len(data), 64))] = rng.randrange(256)
        path.write_bytes(data[: rng.randint(0, len(data))])
        size = photo_size(path)
        assert size is None or min(size) >= 0
    endless = b"\xff\xd8\xff" + b"\xff" * 10_000
    for data in (b"", b"\xff\xd8\xff", b"II*\0\xff\xff\xff\xff", endless):
        path.write_bytes(data)
        assert photo_size(path) is None


@pytest.mark.parametrize(
    "text, loopback, endpoint",
    [("tcp://127.0.0.1:5555", True, "tcp://127.0.0.1:5555"),
     ("tcp://127.8.8.8:0", True, "tcp://127.8.8.8:*"),
     ("tcp://localhost:*", True, "tcp://localhost:*"),
     ("tcp://[::1]:5555", True, "tcp://[::1]:5555"),
     ("tcp://[::]:5555", False, "tcp://[::]:5555"),
     ("tcp://*:5555", False, "tcp://*:5555"),
     ("tcp://0.0.0.0:1", False, "tcp://0.0.0.0:1"),
     ("tcp://localhost.example.org:1", False, "tcp://localhost.example.org:1")],
)  # fmt: skip
def test_addresses(text, loopback, endpoint):
    address = parse_address(text)
    assert (address.loopback, address.endpoint()) == (loopback, endpoint)


def test_limits_by_name(tmp_path):
    settings = with_number(ServiceSettings(tmp_path), "jobs_total", "7")
    settings = with_number(settings, "cancel_seconds", "2.5")
    assert (settings.limits.jobs_total, settings.cancel_seconds) == (7, 2.5)
    with pytest.raises(CrowdGaussianError, match="no limit named x; there are .*jobs_per_client"):
        with_number(settings, "x", "1")
    with pytest.raises(CrowdGaussianError, match="no number"):
        with_number(settings, "jobs_total", "many")


def test_the_key_of_a_result_is_all_that_decides_it():
    config = preset("open")
    keys = {
        result_key("ab" * 32, config, "p"),
        result_key("cd" * 32, config, "p"),
        result_key("ab" * 32, with_setting(config, "avatar.seed", "2"), "p"),
        result_key("ab" * 32, config, "q"),
    }
    assert len(keys) == 4
    assert result_key("ab" * 32, preset("open"), "p") in keys


def test_only_the_last_part_of_a_name_is_kept():
    assert plain_name("C:\\Users\\me\\a.jpg") == "a.jpg"
    assert plain_name("/home/me/a\n\x00.jpg") == "a.jpg"
    assert plain_name("../..") == ".." and plain_name("x/") == "photo"


@pytest.fixture
def jobs(tmp_path):
    folders = Folders(tmp_path)
    folders.make()
    store = Store(folders.database)
    yield Jobs(ServiceSettings(tmp_path, keep_hours=24.0, keep_bytes=1000), folders, store)
    store.close()


def finished(jobs, name, key, size, hours_ago):
    """A job that ended, with a result of so many bytes."""
    now = time.time()
    row = JobRow(name, "local:a", "running", key, "a.png", 5, "ab" * 32, "open", {}, now, now)
    jobs.store.put(row)
    results = jobs.folders.results
    results.open_folders(key)
    (results.objects(key) / "object").write_bytes(bytes(size))
    jobs.folders.upload(name).write_bytes(b"photo")
    jobs.ended(name, {"state": "done", "error": "", "complete": False})
    ended = jobs.store.get(name)
    jobs.store.put(replace(ended, changed=now - 3600 * hours_ago))


def test_old_jobs_are_forgotten_with_their_photo_and_result(jobs):
    finished(jobs, "old", "key1", 10, hours_ago=25)
    finished(jobs, "new", "key2", 10, hours_ago=23)
    jobs.folders.upload("old").write_bytes(b"photo")
    jobs.expire()
    jobs.folders.results.sweep()
    assert jobs.store.get("old") is None and jobs.store.get("new") is not None
    assert not (jobs.folders.results.root / "key1").exists()
    assert not jobs.folders.upload("old").exists()
    assert (jobs.folders.results.root / "key2").exists()
    assert list(jobs.folders.results.trash.iterdir()) == []


def test_the_oldest_results_make_room(jobs):
    for index in range(4):
        finished(jobs, f"job{index}", f"key{index}", 400, hours_ago=10 - index)
    assert jobs.store.result_bytes() == 1600
    jobs.expire()
    assert [jobs.store.get(f"job{i}") is not None for i in range(4)] == [False, False, True, True]
    assert jobs.store.result_bytes() == 800


def test_photos_of_failed_jobs_make_room_before_results_do(jobs):
    """Cancelled uploads used to count nowhere, and to fill the disk for a day."""
    finished(jobs, "kept", "key", 400, hours_ago=9)
    for index in range(3):
        name, changed = f"failed{index}", time.time() - 3600 * (8 - index)
        row = JobRow(name, "local:b", "failed", f"k{index}", "a.png", 250, "", "open", {}, 1, 1)
        jobs.store.put(replace(row, changed=changed))
        jobs.folders.upload(name).write_bytes(bytes(250))
    jobs.expire()
    assert [jobs.folders.received(f"failed{index}") for index in range(3)] == [0, 250, 250]
    assert jobs.store.get("kept") is not None and jobs.store.get("failed0") is not None


def test_a_result_that_no_job_has_any_more_goes(jobs):
    """As when a job that failed was submitted again after an update of the program."""
    finished(jobs, "job", "old key", 400, hours_ago=1)
    jobs.store.put(replace(jobs.store.get("job"), key="new key"))
    jobs.folders.results.open_folders("new key")
    jobs.expire()
    assert jobs.store.result_bytes() == 0
    assert [path.name for path in jobs.folders.results.root.iterdir()] == ["new key"]


def test_what_a_kill_left_of_jobs_that_are_over_goes(jobs):
    """Of 60 kills each tenth or so left a photo or a version of a file that nobody can ask for."""
    finished(jobs, "over", "key", 10, hours_ago=1)
    row, results = jobs.store.get("over"), jobs.folders.results
    jobs.store.append(row, (Artifact("scene.json", 3, "aa" * 32),))
    jobs.store.put_result("key", 3, True, (Artifact("scene.json", 3, "bb" * 32),))
    for name in ("aa" * 32, "bb" * 32, "cc" * 32):
        (results.objects("key") / name).write_bytes(b"...")
    jobs.store.put(replace(row, job="arriving", state="uploading", changed=time.time()))
    for name in ("over", "unknown", "arriving"):
        jobs.folders.upload(name).write_bytes(b"photo")
    jobs.expire()
    assert [path.name for path in jobs.folders.uploads.iterdir()] == ["arriving"]
    jobs.recover()
    assert sorted(path.name[:2] for path in results.objects("key").iterdir()) == ["aa", "bb"]


def test_owners_take_turns(jobs):
    """One key's eight jobs used to go before another's first."""
    names = ["a1", "a2", "a3", "b1", "b2", "c1"]
    for moment, name in enumerate(names, start=1):
        row = JobRow(name, name[0], "queued", name, "x.png", 5, "", "open", {}, moment, moment)
        jobs.store.put(replace(row, queued=float(moment)))
    assert jobs.store.turns() == ["a1", "b1", "c1", "a2", "b2", "a3"]
    jobs.store.put(replace(jobs.store.get("a1"), state="running"))
    assert jobs.store.turns() == ["b1", "c1", "a2", "b2", "a3"]
    places = {name: jobs.store.position(jobs.store.get(name)) for name in names}
    assert places == {"a1": 0, "b1": 1, "c1": 2, "a2": 3, "b2": 4, "a3": 5}
    jobs.store.begin("a")
    jobs.store.put(replace(jobs.store.get("a1"), state="done"))
    assert jobs.store.turns() == ["b1", "c1", "a2", "b2", "a3"], "a had its turn"
    jobs.store.begin("b")
    jobs.store.begin("c")
    assert jobs.store.turns() == ["a2", "b1", "c1", "a3", "b2"]


def test_the_folder_of_a_killed_service_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    killed = Path(tempfile.mkdtemp(prefix="crowdgaussian-"))
    (tmp_path / "sockets").write_text(str(killed))
    with socket_folder(tmp_path) as folder:
        assert not killed.exists() and (tmp_path / "sockets").read_text() == folder
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sockets").write_text(str(tmp_path / "elsewhere"))
    with socket_folder(tmp_path):
        assert (tmp_path / "elsewhere").exists()


def test_a_shared_result_stays_until_its_last_job_goes(jobs):
    finished(jobs, "one", "key", 10, 1)
    finished(jobs, "two", "key", 10, 1)
    jobs.delete(jobs.store.get("one"))
    assert (jobs.folders.results.root / "key").exists()
    jobs.delete(jobs.store.get("two"))
    assert not (jobs.folders.results.root / "key").exists()


def test_an_upload_that_never_ends_is_given_up(jobs):
    old = time.time() - 2 * 3600
    row = JobRow("u", "local:a", "uploading", "k", "a.png", 5, "ab" * 32, "open", {}, old, old)
    jobs.store.put(row)
    jobs.expire()
    assert jobs.store.get("u").state == "cancelled"


def test_a_job_that_brings_the_service_down_is_not_tried_for_ever(jobs):
    row = JobRow("p", "local:a", "running", "k", "a.png", 5, "ab" * 32, "open", {}, 1.0, 1.0)
    for attempts, state in ((1, "queued"), (2, "queued"), (3, "failed")):
        jobs.store.put(replace(row, attempts=attempts, last_seq=10 * attempts))
        jobs.recover()
        assert jobs.store.get("p").state == state


def test_after_an_update_waiting_jobs_have_a_new_key(jobs):
    row = JobRow("w", "local:a", "queued", "old", "a.png", 5, "ab" * 32, "open", {}, 1.0, 1.0)
    jobs.store.put(row)
    jobs.store.put(replace(row, job="gone", settings={"no.such": "1"}))
    jobs.recover()
    assert jobs.store.get("w").key == result_key("ab" * 32, preset("open"), jobs.settings.pipeline)
    assert jobs.store.get("gone").state == "failed"


def test_a_database_of_another_version_is_left_alone(tmp_path):
    path = tmp_path / "jobs.sqlite"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(CrowdGaussianError, match="move it away"):
        Store(path)
    path.unlink()
    Store(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(CrowdGaussianError, match="version 9"):
        Store(path)


def test_many_artefacts_come_in_several_events(jobs):
    row = JobRow("m", "local:a", "running", "k", "a.png", 5, "ab" * 32, "open", {}, 1.0, 1.0)
    jobs.store.put(row)
    files = [{"name": f"f{i}", "size": 1, "blake2b": f"{i:064x}"} for i in range(250)]
    jobs.progress("m", {"artifacts": files, "progress": {"stage": "people", "fraction": 0.5}})
    events = jobs.store.events("m", 0, 10)
    assert [len(e.artifacts) for e in events] == [100, 100, 50]
    assert events[-1].progress == Progress("people", 0.5)
    assert len(jobs.store.newest("m")) == 250
    assert jobs.store.artifact("m", "f7") == Artifact("f7", 1, f"{7:064x}")


def test_announced_files_keep_their_bytes(tmp_path):
    info = SceneInfo(PhotoInfo("", 8, 8, "a.png"))
    scene = SceneFolder.create(tmp_path / "scene", b"photo", ".jpg", info)
    objects = tmp_path / "objects"
    objects.mkdir()
    announcer = Announcer(scene.path, objects, {})
    first = {a.name: a for a in announcer.changes()}
    assert list(first) == ["photo.jpg", "scene.json"] and announcer.changes() == []
    old = (scene.path / "scene.json").read_bytes()
    scene.update(body_model="another")
    (second,) = announcer.changes()
    assert second.name == "scene.json" and second.blake2b != first["scene.json"].blake2b
    assert (objects / first["scene.json"].blake2b).read_bytes() == old
    known = {a.name: a.blake2b for a in (*first.values(), second)}
    assert Announcer(scene.path, objects, known).changes() == []
