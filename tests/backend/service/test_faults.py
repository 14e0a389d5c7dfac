# SPDX-License-Identifier: Apache-2.0
"""The service with real processes that are killed, frozen, stuck, restarted or not read from."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import uuid

import pytest
from _support.service_running import Client, artifacts_of, serving, start
from crowdgaussian_shared.protocol import encode
from crowdgaussian_shared.protocol import messages as m
from crowdgaussian_shared.scene.folder import SceneFolder

QUICK = ("--set", "cancel_seconds=1", "--set", "beat_seconds=0.4")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("service") / "data", *QUICK) as running:
        yield running


def has_person(index):
    return lambda event: any(f"people/{index:03d}/avatar.npz" == a.name for a in event.artifacts)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid, seconds=5.0):
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def test_a_killed_worker_fails_its_job_and_the_next_one_runs(service, client, photo):
    job, _ = client.submit(photo, "slow-people3.png")
    waiting, _ = client.submit(photo + b"2", "next.png")
    client.ask(m.Attach, job=job)
    client.wait(job, enough=has_person(0), until=("running",))
    os.kill(service.workers()[-1], signal.SIGKILL)
    last = client.wait(job)[-1]
    assert last.state == "failed" and "submit the photo again" in last.error
    assert client.follow(waiting)[-1].state == "done"
    first = artifacts_of(client.events)["people/000/avatar.npz"]
    assert isinstance(client.fetch(job, first.name, first.blake2b), bytes), "finished people stay"

    _, answer = client.submit(photo, "slow-people3.png", job=job)
    assert answer.job.state == "queued", "the photo is here still"
    events = client.follow(job, until=("done",))
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert events[last.seq - 1] == last
    announced = [a for e in events for a in e.artifacts if a.name == first.name]
    assert announced == [first], "the first person was not computed again"


def test_a_new_job_with_the_same_photo_goes_on_where_the_lost_one_was(service, client, photo):
    job, _ = client.submit(photo, "slow-people3.png")
    client.ask(m.Attach, job=job)
    client.wait(job, enough=has_person(1), until=("running",))
    os.kill(service.workers()[-1], signal.SIGKILL)
    client.wait(job)
    again, _ = client.submit(photo, "slow-people3 other.png")
    events = client.follow(again)
    assert events[-1].state == "done"
    assert b"slow-people3 other.png" in client.fetch(again, "scene.json")
    steps = [e.progress for e in events if e.progress.stage == "avatars"]
    assert {step.person for step in steps} <= {2, None}, "only the third person was left"


def test_a_frozen_worker_is_noticed_and_replaced(service, client, photo):
    job, _ = client.submit(photo, "frozen.png")
    last = client.follow(job)[-1]
    assert last.state == "failed" and "no sign of life" in last.error
    assert gone(service.workers()[-2])


def test_cancel_in_the_queue_is_at_once_and_running_within_3_seconds(client, photo):
    running, _ = client.submit(photo, "slow-people3.png")
    queued, _ = client.submit(photo + b"2", "slow.png")
    client.follow(running, until=("running",))
    started = time.perf_counter()
    assert client.ask(m.Cancel, job=queued).job.state == "cancelled"
    assert time.perf_counter() - started < 1.0
    client.wait(running, until=("running",), enough=has_person(0))
    started = time.perf_counter()
    client.ask(m.Cancel, job=running)
    assert client.wait(running)[-1].state == "cancelled"
    assert time.perf_counter() - started < 3.0
    name = "people/000/avatar.npz"
    assert isinstance(client.fetch(running, name), bytes), "finished people stay"
    assert client.ask(m.Cancel, job=running).job.state == "cancelled", "twice is once"


def test_a_stuck_worker_is_killed(service, client, photo):
    job, _ = client.submit(photo, "stuck.png")
    client.follow(job, until=("running",))
    stuck = service.workers()[-1]
    client.ask(m.Cancel, job=job)
    assert client.wait(job)[-1].state == "cancelled"
    assert gone(stuck)
    following, _ = client.submit(photo + b"2", "next.png")
    assert client.follow(following)[-1].state == "done"


def test_a_killed_broker_takes_up_its_jobs_again(tmp_path, photo):
    first = start(tmp_path / "data", *QUICK)
    with Client(first.port, first.data_port) as client:
        done, _ = client.submit(photo + b"0", "done.png")
        before = client.follow(done)
        running, _ = client.submit(photo, "slow-people3.png")
        queued, _ = client.submit(photo + b"2", "queued.png")
        client.submit(photo + b"3", "part.png", job=(part := str(uuid.uuid4())), upload=False)
        client.ask(m.Upload, client.data, (photo[:100],), job=part, offset=0)
        client.follow(running, until=("running",))
        client.wait(running, until=("running",), enough=has_person(0))
    worker = first.workers()[-1]
    first.kill()
    assert gone(worker), "a worker ends with its broker"
    with serving(tmp_path / "data", *QUICK) as second, Client(second.port, second.data_port) as c:
        assert c.follow(done) == before
        for name, artifact in artifacts_of(before).items():
            assert len(c.fetch(done, name, artifact.blake2b)) == artifact.size
        events = c.follow(running)
        assert [e.seq for e in events] == list(range(1, len(events) + 1))
        assert events[-1].state == "done"
        assert sum(has_person(0)(e) for e in events) == 1, "no finished person is done again"
        assert c.follow(queued)[-1].state == "done"
        assert c.status(part).job.received == 100


def test_a_clean_stop_keeps_jobs_and_leaves_nothing_behind(tmp_path, photo):
    first = start(tmp_path / "data", *QUICK)
    with Client(first.port, first.data_port) as client:
        job, _ = client.submit(photo, "slow-people3.png")
        client.follow(job, until=("running",))
    worker = first.workers()[-1]
    assert first.stop() == 0
    assert not alive(worker) and "Traceback" not in first.log.read_text()
    with serving(tmp_path / "data", *QUICK) as second, Client(second.port, second.data_port) as c:
        assert c.follow(job)[-1].state == "done"


def test_two_services_do_not_share_a_folder(service):
    with pytest.raises(RuntimeError, match="Another `crowdgaussian serve` runs on"):
        start(service.data)


def test_a_new_connection_has_to_say_hello(service):
    client = Client(service.port, service.data_port)
    try:
        answer = client.ask(m.Ping)
        assert (answer.code, answer.message.count("HELLO")) == ("hello", 1)
    finally:
        client.context.destroy(linger=0)


def test_slow_readers_do_not_fill_the_memory(service, client, photo):
    job = big_job(service, client, photo)
    before = service.memory()
    greedy = [Client(service.port, service.data_port) for _ in range(6)]
    try:
        for one in greedy:
            fetch = encode(m.Fetch(1, job, "people/000/avatar.npz"))
            for _ in range(200):
                one.data.send_multipart(fetch)
        time.sleep(2.0)
        assert service.memory() - before < 80 << 20, "200 MiB were asked for by each of 6"
        assert isinstance(client.ask(m.Ping), m.Pong)
        assert len(client.fetch(job, "people/000/avatar.npz")) == BIG
        answers = [greedy[0].receive(greedy[0].data)[0] for _ in range(8)]
        assert {type(a) for a in answers} == {m.Chunk}
    finally:
        for one in greedy:
            one.context.destroy(linger=0)


BIG = 40 << 20


def big_job(service, client, photo):
    """A finished job whose first avatar has been swapped for a file of BIG bytes."""
    job, _ = client.submit(photo + b"big", "a.png")
    found = artifacts_of(client.follow(job))["people/000/avatar.npz"]
    with sqlite3.connect(service.data / "jobs.sqlite") as database:
        ((key,),) = database.execute("SELECT key FROM jobs WHERE job = ?", (job,))
        path = service.data / "results" / key / "objects" / found.blake2b
        path.unlink()
        with path.open("wb") as stream:
            stream.truncate(BIG)
        database.execute(
            "UPDATE artifacts SET size = ? WHERE job = ? AND name = ?", (BIG, job, found.name)
        )
    return job


def test_a_worker_that_cannot_start_is_tried_again_with_pauses(tmp_path):
    with serving(tmp_path / "data", pipeline="no_such_module:run") as service:
        deadline = time.monotonic() + 20
        while "lost (died)" not in service.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        with Client(service.port, service.data_port) as client:
            assert isinstance(client.ask(m.Ping), m.Pong)
        assert 1 <= len(service.workers()) <= 3
        assert re.search(r"worker \d+ lost \(died\)", service.log.read_text())


def test_scene_on_the_server_stays_valid(service):
    for folder in (service.data / "results").glob("*/scene"):
        if SceneFolder.exists(folder):
            SceneFolder.open(folder)


def test_a_service_ends_with_the_program_that_started_it(tmp_path):
    command = [
        sys.executable,
        "-m",
        "crowdgaussian",
        "serve",
        "--data",
        str(tmp_path / "data"),
        "--bind",
        "tcp://127.0.0.1:0",
        "--stop-with-parent",
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout.readline().startswith(b"ready on tcp://127.0.0.1:")
        process.stdin.close()
        assert process.wait(20) == 0


def test_a_taken_port_is_one_sentence(service, tmp_path):
    with pytest.raises(RuntimeError, match="cannot be bound .*; choose another --bind"):
        start(tmp_path / "data", bind=f"tcp://127.0.0.1:{service.port}")


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(52, b"\0")
READY = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER"


def test_idle_connections_refuse_nobody_else(tmp_path):
    """Where 128 files may be open, 97 of them used to keep everybody out for good."""
    idle = []
    with serving(tmp_path / "data", "--workers", "1", files=128) as service:
        try:
            for turn in range(160):
                port = (service.port, service.data_port)[turn % 2]
                idle.append(socket.create_connection(("127.0.0.1", port), 10))
                idle[-1].sendall(GREETING + READY)
                assert idle[-1].recv(1) == b"\xff", "the service takes up the connection"
            with Client(service.port, service.data_port) as client:
                for port in (client.control, client.data):
                    assert isinstance(client.ask(m.Ping, port), m.Pong)
        finally:
            for one in idle:
                one.close()
        assert "128 files may be open: up to 32 clients" in service.log.read_text()
