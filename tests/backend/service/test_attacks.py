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
    f_diskfull, _full2  test_fault_points (processes), test_a_full_disk_at_the_start_is_waited_for
    f_expire2           test_a_sweep_that_fails_ends_nothing
    f_kill, f_kill2     test_fault_points: test_jobs_end_rightly_while_... (processes)
    f_misc              test_parts (photos, updates, turns), test_a_job_that_cannot_be_run_...
    f_limits            client/test_connections and test_faults (processes)
    f_window            test_a_scene_that_was_never_whole_makes_room, test_fault_points
    r_twowriters        tests/shared/formats/test_lease.py
"""

import io
import os
import sqlite3
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import zmq
from _support.service_running import Client, serving, use_pairing
from crowdgaussian.pipeline.config import configured
from crowdgaussian.pipeline.photo import load_photo
from crowdgaussian.service import broker as broker_module
from crowdgaussian.service import control, sockets, submit
from crowdgaussian.service.broker import Broker
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
from zmq.utils.monitor import recv_monitor_message

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


@pytest.fixture
def pair():
    """A ROUTER, its inbox with room for three, and a DEALER."""
    context = zmq.Context()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    inbox = sockets.Inbox(router, secure=False, room=3)
    dealer.connect(f"tcp://127.0.0.1:{port}")
    yield router, inbox, dealer
    inbox.connections.close()
    context.destroy(linger=0)


def test_long_messages_are_thrown_away_in_pieces(pair, monkeypatch):
    monkeypatch.setattr(sockets, "DRAINED", 50)
    router, inbox, dealer = pair
    dealer.send_multipart([b"a"] * 500)
    dealer.send_multipart([b"b", b"c"])
    got = []
    while sum(envelope is not None for envelope in got) < 2 and len(got) < 200:
        assert router.poll(5000), "both messages are on their way"
        got.append(inbox.next())
    cut = next(k for k, envelope in enumerate(got) if envelope is not None)
    assert cut >= 9, "nothing is given out before all of it is gone"
    assert got[cut].frames == [b"a"] * sockets.FRAMES
    rest = [envelope.frames for envelope in got[cut + 1 :] if envelope is not None]
    assert rest == [[b"b", b"c"]]


@pytest.fixture
def hanging(pair):
    """Makes DEALERs that connect once and say so many things -> the monitor of each."""
    made = []

    def make(times=1):
        dealer = pair[0].context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.RECONNECT_IVL, -1)
        monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        made.extend((dealer, monitor))
        dealer.connect(pair[0].getsockopt_string(zmq.LAST_ENDPOINT))
        assert recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        for _ in range(times):
            dealer.send(b"word")
        return monitor

    return make


def settled(inbox, router, messages, connections):
    """Reads so many messages and waits for so many connections."""
    for _ in range(messages):
        assert router.poll(5000)
        inbox.connections.tidy()
        assert inbox.next() is not None
    deadline = time.monotonic() + 5
    while len(inbox.connections._open) != connections and time.monotonic() < deadline:
        inbox.connections.monitor.poll(50)
        inbox.connections.tidy()
    assert len(inbox.connections._open) == connections


def ended(monitors):
    """Which of them are told that their connection is over, the first one waited for."""
    assert any(monitor.poll(5000 if k == 0 else 0) for k, monitor in enumerate(monitors))
    return [bool(monitor.poll(0)) for monitor in monitors]


def test_the_mute_and_then_the_longest_silent_make_room(pair, hanging, monkeypatch):
    router, inbox, dealer = pair
    dealer.close()
    settled(inbox, router, 0, 0)
    first = hanging()
    settled(inbox, router, 1, 1)
    second = hanging()
    settled(inbox, router, 1, 2)
    mute = hanging(times=0)
    settled(inbox, router, 0, 3)
    third = hanging()
    settled(inbox, router, 1, 3)
    assert ended([mute, first, second, third]) == [True, False, False, False]
    fourth = hanging()
    settled(inbox, router, 1, 3)
    assert ended([first, second, third, fourth]) == [True, False, False, False]
    monkeypatch.setattr(sockets, "SILENT", -1.0)
    monkeypatch.setattr(inbox.connections, "_look_at", 0.0)
    settled(inbox, router, 0, 0)
    assert ended([second]) == [True]


@pytest.fixture
def keyed(tmp_path):
    """A CURVE server's inbox with room for eight, and a way to make connections by a key's name."""
    keys, context = KeyFolder(tmp_path / "keys"), zmq.Context(io_threads=2)
    pairings = {name: keys.new(name) for name in ("greedy", "other")}
    sockets.ZapAuthenticator(context, keys).start()
    router, port = sockets.open_router(context, parse_address("tcp://127.0.0.1:0"), keys, 16, 0)
    inbox, made = sockets.Inbox(router, secure=True, room=8), []

    def connect(name, say=True):
        dealer = context.socket(zmq.DEALER)
        use_pairing(dealer, pairings[name])
        dealer.setsockopt(zmq.RECONNECT_IVL, -1)
        monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        made.extend((dealer, monitor))
        dealer.connect(f"tcp://127.0.0.1:{port}")
        assert recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        if say:
            dealer.send(b"word")
        return monitor

    yield router, inbox, connect
    inbox.connections.close()
    for socket in made:
        socket.close(0)
    context.term()  # the thread at the door closes its own socket


def test_one_key_gets_its_share_of_connections_and_the_other_stays(keyed):
    router, inbox, connect = keyed
    other = connect("other")
    settled(inbox, router, 1, 1)
    greedy = []
    for connections in (2, 3, 3):
        greedy.append(connect("greedy"))
        settled(inbox, router, 1, connections)
    assert ended([*greedy, other]) == [True, False, False, False]


def test_who_holds_the_most_places_makes_room(keyed, monkeypatch):
    monkeypatch.setattr(sockets, "ONE_KEY", 1)
    router, inbox, connect = keyed
    other = connect("other")
    settled(inbox, router, 1, 1)
    greedy = [connect("greedy") for _ in range(8)]
    settled(inbox, router, 8, 8)
    assert sum(ended(greedy)) == 1 and not other.poll(0), "who was there first is silent longest"


def test_a_descriptor_that_is_another_connections_by_now_is_left_alone(pair):
    router, inbox, dealer = pair
    dealer.send(b"word")
    settled(inbox, router, 1, 1)
    (descriptor,) = inbox.connections._open
    inbox.connections._open[descriptor].peer = ("127.0.0.1", 1)
    inbox.connections._shut(descriptor)
    dealer.send(b"more")
    assert router.poll(5000) and inbox.next().frames == [b"more"]


def test_the_last_words_of_a_closed_connection_bring_it_back_for_nobody(pair):
    router, inbox, dealer = pair
    dealer.send(b"word")
    settled(inbox, router, 1, 1)
    (descriptor,) = inbox.connections._open
    dealer.send(b"last word")
    assert router.poll(5000)
    inbox.connections._shut(descriptor)
    assert inbox.next().frames == [b"last word"] and not inbox.connections._open


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


@pytest.fixture
def broker(tmp_path):
    made = Broker(ServiceSettings(tmp_path, bind=parse_address("tcp://127.0.0.1:0"), workers=1))
    yield made
    made.close()


def test_what_cannot_be_stored_is_stored_later(broker, monkeypatch):
    stored, full = [], [True]

    def store():
        if full[0]:
            raise sqlite3.OperationalError("database or disk is full")
        stored.append(1)

    def broken():
        raise RuntimeError("a fault of ours")

    broker._due.extend([store, broken, store])
    broker._store_due()
    assert len(broker._due) == 3 and not stored
    full[0] = False
    broker._store_due()
    assert not stored, "not again at once"
    monkeypatch.setattr(broker, "_store_again", 0.0)
    broker._store_due()
    assert len(stored) == 2 and not broker._due


def test_many_events_are_stored_a_moment_at_a_time(broker, monkeypatch):
    """A job of 1,500 quick steps used to hold up everybody until all of them were stored."""
    stored = []
    monkeypatch.setattr(broker_module, "STORING", 0.01)
    for number in range(100):
        broker._due.append(lambda number=number: (time.sleep(0.002), stored.append(number)))
    broker._store_due()
    assert 0 < len(stored) < 50
    while broker._due:
        broker._store_due()
    assert stored == [*range(100)]


def test_who_has_much_to_be_sent_is_sent_it_in_turns(broker, monkeypatch):
    sessions, sent = broker._sessions, []
    monkeypatch.setattr(control, "PUMPING", 0.0)
    monkeypatch.setattr(control, "BURST", 2)
    monkeypatch.setattr(control, "send", lambda socket, to, event: sent.append((to, event)) or True)
    monkeypatch.setattr(
        sessions,
        "_store",
        SimpleNamespace(events=lambda job, last, most: EVENTS[last : last + most]),
    )
    for name in (b"one", b"two"):
        sessions.welcome(name, "local:x", "")
        sessions.follow(sessions.find(name), "job", 0)
    while sessions.pump():
        pass
    assert [to for to, _ in sent] == 3 * [b"one", b"one", b"two", b"two"]
    assert [event.seq for to, event in sent if to == b"two"] == [1, 2, 3, 4, 5, 6]
    assert not sessions.behind


EVENTS = [m.Event(0, "job", seq, "running", m.Progress()) for seq in range(1, 7)]


class Dying:
    """A process that takes a while to go."""

    pid, stdin, dead, kills = 1, None, False, 0

    def kill(self):
        self.kills += 1

    def poll(self):
        return -9 if self.dead else None

    def wait(self, seconds=None):
        assert self.dead, "nobody waits for it"


def test_nobody_waits_until_a_killed_worker_is_gone(broker):
    """One with gigabytes of memory used to hold up the loop while the system took it down."""
    (worker,) = broker._pool.workers
    process = worker.process = Dying()
    worker.ready, worker.job, worker.deadline = True, "job", 0.0
    assert broker._pool.supervise() == [] and process.kills == 1
    worker.job = ""
    assert broker._pool.idle() == [], "it gets no job any more"
    worker.job, process.dead = "job", True
    (lost,) = broker._pool.supervise()
    assert (lost.job, lost.why, worker.process) == ("job", "frozen", None)


def test_no_job_is_queued_again_while_its_end_waits_to_be_stored(broker, monkeypatch):
    asked = []
    monkeypatch.setattr(broker._jobs, "reconcile", asked.append)
    broker._due.append(lambda: None)
    broker._sweep()
    assert not asked
    broker._due.clear()
    broker._sweep()
    assert asked == [{""}], "the one worker has no job"


def test_a_letter_that_breaks_something_is_its_senders_affair(broker, monkeypatch):
    forgotten = []
    monkeypatch.setattr(broker._sessions, "forget", forgotten.append)
    monkeypatch.setattr(broker._control, "handle", lambda envelope: 1 / 0)
    broker._read(sockets.Envelope(b"me", "", []))
    assert forgotten == [b"me"]


@pytest.fixture
def quiet(broker, monkeypatch):
    """A broker to which nothing happens, whose pauses take no time."""
    monkeypatch.setattr(broker._stopping, "wait", lambda seconds: None)
    broker._pool.socket.close()
    monkeypatch.setattr(broker_module.zmq, "Poller", lambda: Quiet())
    monkeypatch.setattr(broker._data, "start", lambda: None)
    monkeypatch.setattr(broker._data, "is_alive", lambda: True)
    return broker


def fails(times, then=lambda: None):
    """A step that finds the disk full so many times."""
    left = [times]

    def step():
        left[0] -= 1
        if left[0] >= 0:
            raise sqlite3.OperationalError("database or disk is full")
        then()

    return step


def test_a_full_disk_at_the_start_is_waited_for(quiet, monkeypatch):
    """It used to end in a broker that neither served nor stopped."""
    begun = []
    monkeypatch.setattr(quiet._jobs, "recover", fails(2, lambda: begun.append(1)))
    monkeypatch.setattr(quiet, "_turn", quiet.stop)
    quiet.run()
    assert begun == [1]


def test_without_its_data_thread_a_service_ends_with_a_sentence(quiet, monkeypatch):
    monkeypatch.setattr(quiet._data, "is_alive", lambda: False)
    with pytest.raises(CrowdGaussianError, match="data port's thread has ended; start"):
        quiet.run()


def test_a_sweep_that_fails_ends_nothing(quiet, monkeypatch):
    turns = []

    def turn():
        turns.append(1)
        if len(turns) == 3:
            quiet.stop()

    monkeypatch.setattr(broker_module, "SWEEP", -1.0)
    monkeypatch.setattr(quiet, "_turn", turn)
    monkeypatch.setattr(quiet, "_sweep", fails(9))
    quiet.run()
    assert len(turns) == 3


class Quiet:
    """A poller to which nothing happens."""

    def register(self, *_):
        pass

    def poll(self, *_):
        return []
