# SPDX-License-Identifier: Apache-2.0
"""A service in processes of its own, and a client that is nothing but the protocol's messages."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import zmq
from crowdgaussian_shared.client.server import Pairing
from crowdgaussian_shared.protocol import decode, encode
from crowdgaussian_shared.protocol import messages as m
from crowdgaussian_shared.scene.schema import hash_bytes

HERE = Path(__file__).parents[1]  # tests/
WAIT = 30.0  # seconds, for anything


@dataclass
class Service:
    """One running `crowdgaussian serve`."""

    data: Path
    process: subprocess.Popen
    port: int
    data_port: int
    log: Path

    def workers(self) -> list[int]:
        """Process ids of the workers it has started, oldest first."""
        return [int(pid) for pid in re.findall(r"worker (\d+) started", self.log.read_text())]

    def memory(self) -> int:
        """Resident bytes of the broker."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(WAIT)
        self.process.stdout.close()
        return code


def start(
    data: Path,
    *options: str,
    pipeline: str = "_support.service_pipeline:run",
    bind: str = "tcp://127.0.0.1:0",
    files: int = 0,
    program: str = "crowdgaussian",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Service:
    """Starts a service and waits until it is ready.

    Args:
        data: its folder; the log lies beside it.
        options: of the command line.
        pipeline: what the workers run.
        bind: its address.
        files: that it may open, 0 for many.
        program: the module that is run, with `serve` and the options.
        environment: more variables.
    """
    log = data.parent / f"{data.name}.log"
    limit = ("sh", "-c", f'ulimit -n {files}; exec "$@"', "sh") if files else ()
    command = [
        *limit,
        sys.executable,
        "-m",
        program,
        "serve",
        "--data",
        str(data),
        "--bind",
        bind,
        *options,
        *(("--pipeline", pipeline) if pipeline else ()),
    ]
    paths = (str(HERE), os.environ.get("PYTHONPATH"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment}
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stream, text=True, env=environment
        )
    line = process.stdout.readline()
    match = re.match(r"ready on tcp://\S+:(\d+), data port (\d+)", line)
    if match is None:
        process.communicate()
        raise RuntimeError(line + log.read_text())
    return Service(data, process, int(match[1]), int(match[2]), log)


@contextmanager
def serving(data: Path, *options: str, **more):
    service = start(data, *options, **more)
    try:
        yield service
    finally:
        service.stop()


def use_pairing(socket, pairing):
    """Makes a socket a CURVE client."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, pairing.server_public)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, pairing.client_public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, pairing.client_secret)


@dataclass
class Client:
    """Speaks with a service, one request at a time."""

    port: int
    data_port: int
    name: str = field(default_factory=lambda: str(uuid.uuid4()))
    pairing: Pairing | None = None
    events: list[m.Event] = field(default_factory=list)

    def __post_init__(self):
        self.context = zmq.Context()
        self.control = self._connect(self.port)
        self.data = self._connect(self.data_port)
        self._request = 0

    def __enter__(self):
        try:
            self.welcome = self.ask(m.Hello, client="test", client_id=self.name)
        except BaseException:
            self.context.destroy(linger=0)
            raise
        return self

    def __exit__(self, *_):
        self.context.destroy(linger=0)

    def _connect(self, port):
        socket = self.context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        if self.pairing is not None:
            use_pairing(socket, self.pairing)
        socket.connect(f"tcp://127.0.0.1:{port}")
        return socket

    def send(self, kind, socket=None, payloads=(), **fields):
        self._request += 1
        frames = encode(kind(request=self._request, **fields), payloads)
        (socket or self.control).send_multipart(frames)
        return self._request

    def receive(self, socket=None, timeout=WAIT):
        socket = socket or self.control
        if not socket.poll(1000 * timeout):
            raise TimeoutError("the service did not answer")
        return decode(socket.recv_multipart())

    def ask(self, kind, socket=None, payloads=(), **fields):
        """Sends a request and returns its answer; events that come between are kept."""
        request = self.send(kind, socket, payloads, **fields)
        while True:
            message, data = self.receive(socket)
            if isinstance(message, m.Event):
                self.events.append(message)
            elif message.request == request:
                return (message, data[0]) if data else message

    def submit(self, photo: bytes, name="a.png", job=None, upload=True, **fields):
        """Submits and uploads -> (job id, the last answer)."""
        job = job or str(uuid.uuid4())
        answer = self.ask(
            m.Submit,
            job=job,
            photo_name=name,
            photo_bytes=len(photo),
            photo_blake2b=hash_bytes(photo),
            **fields,
        )
        if upload and isinstance(answer, m.JobInfo) and answer.job.state == "uploading":
            answer = self.upload(job, photo, answer.job.received)
        return job, answer

    def upload(self, job, photo, offset=0, piece=m.CHUNK_BYTES):
        while True:
            answer = self.ask(
                m.Upload, self.data, (photo[offset : offset + piece],), job=job, offset=offset
            )
            if isinstance(answer, m.Error) or answer.received == len(photo):
                return answer
            offset = answer.received

    def follow(self, job, until=m.ENDED, last_seq=0, timeout=WAIT):
        """Attaches and reads events until a state -> those events."""
        self.ask(m.Attach, job=job, last_seq=last_seq)
        if last_seq == 0:  # the replay begins after the answer
            self.events = [event for event in self.events if event.job != job]
        return self.wait(job, until, timeout)

    def wait(self, job, until=m.ENDED, timeout=WAIT, enough=lambda event: True):
        deadline = time.monotonic() + timeout
        at = 0
        while True:
            while at < len(self.events):
                event = self.events[at]
                at += 1
                if event.job == job and event.state in until and enough(event):
                    return [e for e in self.events if e.job == job]
            message, _ = self.receive(timeout=max(0.01, deadline - time.monotonic()))
            assert isinstance(message, m.Event), message
            self.events.append(message)

    def fetch(self, job, name, blake2b="", offset=0):
        """The whole artefact, or the ERROR."""
        parts = b""
        while True:
            answer = self.ask(
                m.Fetch, self.data, job=job, artifact=name, blake2b=blake2b, offset=offset
            )
            if isinstance(answer, m.Error):
                return answer
            chunk, data = answer
            parts += data
            offset += len(data)
            if offset >= chunk.size:
                return parts

    def status(self, job):
        return self.ask(m.Status, job=job)


def artifacts_of(events):
    """The newest version of every artefact."""
    return {a.name: a for event in events for a in event.artifacts}
