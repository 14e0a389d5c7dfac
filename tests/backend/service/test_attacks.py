# SPDX-License-Identifier: Apache-2.0
"""One client's letters, or one step that fails, never harm another client's job.

Each script that once broke the service has its test, with real processes where it says so:

    a_attach_flood      test_who_asks_on_without_reading_is_forgotten_and_nobody_else (processes)
    a_tiny, a_tiny2     test_a_message_of_many_frames_does_not_fail_running_jobs (processes)
    a_poison            test_a_photo_swapped_while_it_is_hashed_poisons_nobody (processes), and
                        test_keys: test_a_hash_alone_gets_nobody_elses_result (processes)
    a_jpeg_fill, a_eps  test_what_is_no_photo_ends_in_a_sentence_and_starts_no_program (processes),
                        test_fill_bytes_are_not_read_for_ever
    a_edit              test_edits: test_keys_of_many_corrections_are_made_once_...
    a_idle              test_faults: test_idle_connections_refuse_nobody_else (processes)
    f_zapdead           test_keys: test_a_list_that_cannot_be_read_lets_nobody_in (processes)
    f_diskfull, _full2  test_fault_points (processes), test_broker: test_a_full_disk_at_...
    f_expire2           test_broker: test_a_sweep_that_fails_ends_nothing
    f_kill, f_kill2     test_fault_points: test_jobs_end_rightly_while_... (processes)
    f_misc              test_parts (photos, updates, turns), test_a_job_that_cannot_be_run_...
    f_limits            client/test_connections and test_faults (processes)
    f_window            test_a_scene_that_was_never_whole_makes_room, test_fault_points
    r_twowriters        tests/shared/formats/test_lease.py
"""

import io
import os
import time
from dataclasses import replace

import pytest
import zmq
from _support.service_running import Client, serving
from crowdgaussian.pipeline.config import configured
from crowdgaussian.pipeline.photo import load_photo
from crowdgaussian.service import sockets, submit
from crowdgaussian.service.jobs import Jobs
from crowdgaussian.service.results import Folders
from crowdgaussian.service.settings import KeyFolder, ServiceSettings, parse_address
from crowdgaussian.service.store import JobRow, Store
from crowdgaussian.service.submit import result_key
from crowdgaussian.service.worker import _check_photo
from crowdgaussian.service.workers import Task
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol import encode
from crowdgaussian_shared.protocol import messages as m
from crowdgaussian_shared.scene.schema import hash_bytes
from PIL import Image

QUICK = ("--set", "cancel_seconds=1", "--set", "beat_seconds=0.4")
PIPELINE = "_support.service_pipeline:run"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """With a Ghostscript that leaves a note of having been started."""
    folder = tmp_path_factory.mktemp("service")
    program = folder / "bin/gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {folder}/started\n")
    program.chmod(0o755)
    paths = os.pathsep.join((str(program.parent), os.environ["PATH"]))
    with serving(folder / "data", *QUICK, environment={"PATH": paths}) as running:
        yield running


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\nshowpage\n%%EOF\n"


def test_what_is_no_photo_ends_in_a_sentence_and_starts_no_program(service, client):
    for photo in (EPS, b"\xff\xd8" + b"\xff" * (1 << 16)):
        job, _ = client.submit(photo, "holiday.jpg")
        last = client.follow(job)[-1]
        assert last.state == "failed" and "holiday.jpg is not an image" in last.error
    assert not (service.data.parent / "started").exists()


def picture(colour, size):
    """A PNG of one colour and so many bytes."""
    stream = io.BytesIO()
    Image.new("RGB", (160, 120), colour).save(stream, "PNG")
    return stream.getvalue().ljust(size, b"\0")


def test_a_photo_swapped_while_it_is_hashed_poisons_nobody(service, client):
    size = 8 << 20  # takes some 10 ms to hash
    true, wrong = picture("blue", size), picture("red", size)
    with Client(service.port, service.data_port) as mallory:
        job, _ = mallory.submit(true, "people1.png", upload=False)
        for at in range(0, size, m.CHUNK_BYTES):
            said = {"job": job, "offset": at}
            piece = (wrong[at : at + m.CHUNK_BYTES],)
            if at + m.CHUNK_BYTES < size:
                mallory.ask(m.Upload, mallory.data, piece, **said)
        mallory.send(m.Upload, mallory.data, piece, **said)
        mallory.ask(m.Cancel, job=job)
        mallory.submit(true, "people1.png", job=job, upload=False)
        mallory.receive(mallory.data)
        mine, _ = client.submit(true, "people1.png")
        assert client.follow(mine)[-1].state == "done"
        with Image.open(io.BytesIO(client.fetch(mine, "photo.jpg"))) as photo:
            red, _, blue = photo.convert("RGB").getpixel((80, 60))
        assert blue > 200 > 50 > red
        mallory.ask(m.Cancel, job=job)


def test_who_asks_on_without_reading_is_forgotten_and_nobody_else(service, client, photo):
    greedy = Client(service.port, service.data_port)
    with greedy:
        job, _ = greedy.submit(photo, upload=False)
        for _ in range(20_000):
            try:
                greedy.control.send_multipart(encode(m.Attach(1, job, 0)), zmq.NOBLOCK)
            except zmq.Again:
                break
        assert isinstance(client.ask(m.Ping), m.Pong)
    mine, _ = client.submit(photo + b"mine", "mine.png")
    assert client.follow(mine)[-1].state == "done"


@pytest.mark.parametrize("where", ["control", "data"])
def test_a_message_of_many_frames_does_not_fail_running_jobs(service, client, photo, where):
    job, _ = client.submit(photo + where.encode(), "slow-people3.png")
    client.ask(m.Attach, job=job)
    client.wait(job, ("running",))
    with Client(service.port, service.data_port) as other:
        getattr(other, where).send_multipart([b""] * 400_000)
        assert isinstance(client.ask(m.Ping), m.Pong)
        answer, _ = other.receive(getattr(other, where))
        assert isinstance(answer, m.Error) and answer.code == "message"
    assert client.wait(job)[-1].state == "done"


def test_fill_bytes_are_not_read_for_ever():
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size=-1):
            data = super().read(size)
            self.taken += len(data)
            return data

    stream = Counting(b"\xff\xd8" + b"\xff" * 5_000_000)
    assert submit._jpeg(stream) is None
    assert stream.taken < 100_000
    buffer = io.BytesIO()
    Image.new("RGB", (17, 9)).save(buffer, "JPEG")
    filled = buffer.getvalue()[:2] + b"\xff" * 1000 + buffer.getvalue()[2:]
    assert submit._jpeg(io.BytesIO(filled)) == (17, 9)


def test_postscript_is_no_photo(tmp_path):
    Image.new("RGB", (80, 80)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "holiday.jpg")
    with pytest.raises(CrowdGaussianError, match="not an image that can be read"):
        load_photo(tmp_path / "holiday.jpg")


class NoList:
    """Keys that cannot be read just now."""

    def name_of(self, public):
        raise OSError(40, "Too many levels of symbolic links")


def test_nobody_gets_in_when_the_list_of_keys_cannot_be_read():
    context = zmq.Context()
    try:
        door = sockets.ZapAuthenticator(context, NoList())
        question = [b"id", b"", b"1.0", b"7", sockets.ZAP_DOMAIN, b"", b"", b"CURVE", bytes(32)]
        answer = door._safe_answer(question)
        assert answer[:5] == [b"id", b"", b"1.0", b"7", b"500"]
        assert door._safe_answer([b"id", b"", b"1.0"])[:3] == [b"id", b"", b"1.0"]
        door._socket.close()
    finally:
        context.destroy(linger=0)


def test_without_anybody_at_the_door_it_is_shut(tmp_path):
    keys = KeyFolder(tmp_path / "keys")
    pairing = keys.new("studio")
    context = zmq.Context()
    try:  # no ZapAuthenticator: its thread has died
        router, port = sockets.open_router(context, parse_address("tcp://127.0.0.1:0"), keys, 16, 0)
        stranger = context.socket(zmq.DEALER)
        public, secret = zmq.curve_keypair()
        stranger.setsockopt(zmq.CURVE_SERVERKEY, pairing.server_public)
        stranger.setsockopt(zmq.CURVE_PUBLICKEY, public)
        stranger.setsockopt(zmq.CURVE_SECRETKEY, secret)
        stranger.connect(f"tcp://127.0.0.1:{port}")
        stranger.send(b"let me in")
        assert not router.poll(1000)
    finally:
        context.destroy(linger=0)


# Jobs whose photo or whose steps are not what they seem

PHOTO = b"a photo"


@pytest.fixture
def jobs(tmp_path):
    folders = Folders(tmp_path)
    folders.make()
    store = Store(folders.database)
    yield Jobs(ServiceSettings(tmp_path, pipeline=PIPELINE), folders, store)
    store.close()


def row(state, **changes):
    now = time.time()
    blake2b = hash_bytes(PHOTO)
    key = result_key(blake2b, configured("open", {}), PIPELINE)
    made = JobRow(
        "job", "local:a", state, key, "a.png", len(PHOTO), blake2b, "open", {}, now - 99, now - 99
    )
    return replace(made, **changes)


def test_a_photo_of_the_right_size_is_not_yet_the_right_photo(jobs):
    jobs.folders.upload("job").write_bytes(b"another"[: len(PHOTO)])
    assert jobs.accept(row("cancelled", last_seq=3)).state == "uploading"
    jobs.folders.upload("job").write_bytes(PHOTO)
    assert jobs.accept(row("cancelled", last_seq=3)).state == "queued"


def test_a_worker_refuses_another_photo(tmp_path):
    path = tmp_path / "photo"
    path.write_bytes(PHOTO)
    task = Task("job", str(path), "a.png", hash_bytes(PHOTO), "", "", "open", {}, {})
    _check_photo(task)
    path.write_bytes(b"another")
    with pytest.raises(CrowdGaussianError, match="not the one that was announced"):
        _check_photo(task)


def test_a_scene_that_was_never_whole_makes_room(jobs):
    scene = jobs.folders.results.scene("ab" * 32)
    scene.mkdir(parents=True)
    (scene / "photo.jpg").write_bytes(b"half")
    jobs.folders.results.open_folders("ab" * 32)
    assert not scene.exists() or not any(scene.iterdir())


def test_jobs_that_nobody_would_end_are_taken_up_again(jobs):
    jobs.store.put(row("running"))
    jobs.store.put(row("running", job="busy"))
    jobs.store.put(row("uploading", job="whole"))
    jobs.folders.upload("whole").write_bytes(PHOTO)
    jobs.store.put(row("uploading", job="half"))
    jobs.folders.upload("half").write_bytes(PHOTO[:3])
    jobs.reconcile({"busy"})
    states = {name: jobs.store.get(name).state for name in ("job", "busy", "whole", "half")}
    assert states == {"job": "queued", "busy": "running", "whole": "queued", "half": "uploading"}


def test_a_job_that_cannot_be_run_any_more_stops_no_other(jobs):
    jobs.store.put(row("queued", job="old", settings={"people.no_such": "1"}, key="x", queued=1.0))
    jobs.store.put(row("queued", queued=2.0))
    jobs.folders.upload("job").write_bytes(PHOTO)
    assert jobs.next_task().job == "job"
    assert jobs.store.get("old").state == "failed"
