# SPDX-License-Identifier: Apache-2.0
"""A connection that fails is explained, and what a hostile server sends is refused."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import crowdgaussian_shared.client.link as client_link
import pytest
import zmq
from _support.client_running import finished, lost, noise_photo, pump_until, run_job
from _support.service_running import serving
from crowdgaussian_shared.client.client import Client
from crowdgaussian_shared.client.data import LONGEST_PAUSE, Backoff
from crowdgaussian_shared.client.server import Server, parse_pairing
from crowdgaussian_shared.client.ticket import JobRequest
from crowdgaussian_shared.client.updates import ServerUpdate
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol import decode, encode
from crowdgaussian_shared.protocol import messages as m
from crowdgaussian_shared.scene.schema import hash_bytes
from zmq.utils import z85

LIMITS = m.Limits()


def keys(data, *arguments):
    command = [sys.executable, "-m", "crowdgaussian", "keys", *arguments, "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A service with keys, and a pairing line for it."""
    data = tmp_path_factory.mktemp("guarded") / "data"
    line = keys(data, "new", "studio")
    with serving(data, bind="tcp://0.0.0.0:0") as service:
        yield service, line


def paired(service, line):
    return Server.parse(f"tcp://127.0.0.1:{service.port}", line)


def failure(server) -> ServerUpdate:
    """How the first connection ends."""
    with Client(server, "test") as client:
        return pump_until(client, lost)[-1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def tcp_server(serve):
    """A TCP server that is no ZeroMQ at all -> its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while True:
                try:
                    with listener.accept()[0] as connection:
                        serve(connection)
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


class FakeServer(threading.Thread):
    """A ROUTER that answers as it is told: a function from a message to frames."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self._context = zmq.Context()
        self._sockets = [self._context.socket(zmq.ROUTER) for _ in range(2)]
        self.port, self.data_port = (
            s.bind_to_random_port("tcp://127.0.0.1") for s in self._sockets
        )
        self._answer = answer
        self._stopping = threading.Event()

    def run(self):
        poller = zmq.Poller()
        for one in self._sockets:
            poller.register(one, zmq.POLLIN)
        while not self._stopping.is_set():
            for one, _ in poller.poll(50):
                sender, *frames = one.recv_multipart()
                for answer in self._answer(self, decode(frames)[0]):
                    one.send_multipart([sender, *answer])
        self._context.destroy(0)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self.join()


def local(port):
    return Server("127.0.0.1", port)


def test_nobody_listens():
    update = failure(local(free_port()))
    assert update.reason == "refused" and "crowdgaussian serve" in update.message


def test_a_pairing_line_lets_a_client_in(guarded, tmp_path):
    service, line = guarded
    file = tmp_path / "line.txt"
    file.write_text(line + "\n")
    with Client(paired(service, str(file)), "test") as client:
        assert run_job(client, noise_photo(tmp_path / "p.png"), tmp_path / "out").succeeded


def test_a_wrong_server_key_is_named(guarded):
    service, line = guarded
    other = replace(parse_pairing(line), server_public=z85.decode(zmq.curve_keypair()[0]))
    update = failure(Server("127.0.0.1", service.port, other))
    assert update.reason == "key" and "key" in update.message


def test_an_unknown_key_is_named(guarded):
    service, line = guarded
    public, secret = (z85.decode(key) for key in zmq.curve_keypair())
    other = replace(parse_pairing(line), client_public=public, client_secret=secret)
    update = failure(Server("127.0.0.1", service.port, other))
    assert update.reason == "denied" and "new" in update.message


def test_a_missing_line_is_named(guarded):
    service, _ = guarded
    update = failure(local(service.port))
    assert update.reason == "pairing" and "keys new" in update.message


def test_a_key_that_is_revoked_is_shut_out_at_once_and_for_good(guarded):
    service, _ = guarded
    line = keys(service.data, "new", "guest")
    with Client(paired(service, line), "test") as client:
        pump_until(client, lambda u: isinstance(u, ServerUpdate) and u.state == "connected")
        keys(service.data, "revoke", "guest")
        update = pump_until(client, lost)[-1]
        assert update.reason == "denied" and "revoked" in update.message
        assert update.retry_in == LONGEST_PAUSE
    assert failure(paired(service, line)).reason == "denied"


def test_a_line_for_a_server_without_keys_is_named(tmp_path, guarded):
    _, line = guarded
    with serving(tmp_path / "data") as service:
        update = failure(paired(service, line))
    assert update.reason == "pairing" and "leave the pairing line out" in update.message


def test_another_server_is_named():
    with tcp_server(lambda connection: connection.sendall(b"HTTP/1.1 400 no\r\n\r\n")) as port:
        update = failure(local(port))
    assert update.reason == "foreign" and "no CrowdGaussian server" in update.message


def test_silence_is_named(monkeypatch):
    monkeypatch.setattr(client_link, "CONNECT_SECONDS", 0.5)
    with tcp_server(lambda connection: time.sleep(1.5)) as port:
        update = failure(local(port))
    assert update.reason == "silent" and "does not answer" in update.message


def test_another_major_version_is_named():
    def answer(server, message):
        frames = encode(m.Error(message.request, "version", "too old"))
        return [[frames[0], b"\x02\x00", *frames[2:]]]

    with FakeServer(answer) as server:
        update = failure(local(server.port))
    assert update.reason == "version" and "update CrowdGaussian on this side" in update.message


def test_a_remote_server_needs_a_line():
    with pytest.raises(CrowdGaussianError, match="needs a pairing line"):
        Server.parse("tcp://gpu.example.org:5555")


def test_pauses_grow_with_jitter():
    backoff = Backoff()
    pauses = [backoff.next() for _ in range(8)]
    for pause, full in zip(pauses, (1, 2, 4, 8, 16, 32, 32, 32)):
        assert full / 2 <= pause <= full
    backoff.reset()
    assert backoff.next() <= 1
    assert len({Backoff().next() for _ in range(20)}) > 10


def one_job_server(artifacts, contents):
    """A server with one finished job that announces and sends what it likes."""

    def answer(server, message):
        n = message.request
        progress = m.Progress("avatars", 1.0)
        if isinstance(message, m.Hello):
            return [
                encode(m.Welcome(n, "fake", server.data_port, m.Device("cpu", "x", 1, 1), LIMITS))
            ]
        if isinstance(message, m.Ping):
            return [encode(m.Pong(n))]
        if isinstance(message, m.Submit):
            return [encode(m.JobInfo(n, m.Job(message.job, "done", last_seq=1)))]
        if isinstance(message, m.Attach):
            job = m.Job(message.job, "done", progress=progress, last_seq=1)
            event = m.Event(0, message.job, 1, "done", progress, tuple(artifacts))
            return [encode(m.JobInfo(n, job)), encode(event)]
        data = contents[message.artifact]
        piece = data[message.offset : message.offset + m.CHUNK_BYTES]
        return [
            encode(m.Chunk(n, message.job, message.artifact, message.offset, len(data)), (piece,))
        ]

    return FakeServer(answer)


def end_of_job(server, tmp_path):
    with Client(local(server.port), "test") as client:
        client.submit(JobRequest(noise_photo(tmp_path / "p.png"), tmp_path / "out"))
        return pump_until(client, finished)[-1]


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil", "C:\\evil", ".wire/job.json"]
)
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    data = b"evil"
    with one_job_server([m.Artifact(name, 4, hash_bytes(data))], {name: data}) as server:
        last = end_of_job(server, tmp_path)
    assert not last.succeeded and "The server's file name" in last.error
    assert not list(tmp_path.rglob("*evil*"))


def test_wrong_bytes_never_take_their_place(tmp_path):
    data = b"\x01" * 3000
    with one_job_server(
        [m.Artifact("photo.jpg", 3000, hash_bytes(data))], {"photo.jpg": b"\x02" * 3000}
    ) as server:
        last = end_of_job(server, tmp_path)
    assert "arrived damaged 3 times" in last.error
    assert not (tmp_path / "out/photo.jpg").exists()


def test_a_file_of_another_size_is_refused(tmp_path):
    with one_job_server(
        [m.Artifact("photo.jpg", 2 << 20, "ab" * 32)], {"photo.jpg": b"\x02" * 10}
    ) as server:
        assert "arrived damaged" in end_of_job(server, tmp_path).error


def test_a_file_that_the_disk_cannot_hold_is_refused(tmp_path):
    with one_job_server([m.Artifact("photo.jpg", 1 << 40, "ab" * 32)], {}) as server:
        assert "may have" in end_of_job(server, tmp_path).error


def test_a_scene_without_its_files_is_no_result(tmp_path):
    with one_job_server([], {}) as server:
        assert "did not send the whole result" in end_of_job(server, tmp_path).error


def test_a_network_that_stood_still_is_not_told_as_missing_keys():
    """After a stall a server without keys used to be said to ask for a pairing line."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    seen = []

    def serve(connection):
        seen.append(connection.recv(64))
        if len(seen) > 1:  # the connection before was cut within its handshake; now it answers
            connection.sendall(greeting)
            connection.recv(64)

    with tcp_server(serve) as port:
        update = failure(Server.parse(f"tcp://127.0.0.1:{port}", ""))
    assert update.reason == "lost" and "stood still" in update.message


def test_a_held_client_runs_no_python_and_goes_on_afterwards(monkeypatch):
    """Nobody listens there: its thread still takes turns, four in a second."""
    turns = []
    monkeypatch.setattr(Client, "_drain", lambda _: turns.append(threading.get_ident()))
    client = Client(Server.parse(f"tcp://127.0.0.1:{free_port()}"), "test")
    client.start()
    wait_for_turns(turns, 2)
    with client.held():
        time.sleep(0.05)
        before = len(turns)
        time.sleep(0.6)
        assert len(turns) == before
    wait_for_turns(turns, before + 2)
    client.close()
    with client.held():
        pass  # the thread has ended: there is nothing to wait for
    assert threading.get_ident() not in turns


def wait_for_turns(turns, count):
    deadline = time.monotonic() + 30
    while len(turns) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
