# SPDX-License-Identifier: Apache-2.0
"""The service's data socket against raw ZeroMQ, and control behind a saturated data socket.

Raw ZeroMQ is a ROUTER that answers each request with the same 1 MiB from memory; the service reads
each chunk from disk, checks the request and finds it in its store. Both serve clients that keep 8
requests under way, in turns, so that a busy machine slows both.

    python benchmarks/service.py [--rounds 5] [--mib 256]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import zmq
from crowdgaussian.service.results import Folders
from crowdgaussian.service.settings import KeyFolder
from crowdgaussian.service.store import JobRow, Store
from crowdgaussian_shared.client.server import Pairing
from crowdgaussian_shared.protocol import decode, encode
from crowdgaussian_shared.protocol import messages as m
from zmq.utils import z85

JOB = "0f8fad5b-d9cb-469f-a165-70867728950e"
FILE = m.Artifact("people/000/avatar.npz", 64 << 20, "ab" * 32)
CLIENTS = (1, 4, 16)
RAW_SERVER = """
import sys, zmq
socket = zmq.Context().socket(zmq.ROUTER)
if len(sys.argv) > 1:
    socket.curve_server, socket.curve_secretkey = True, sys.argv[1].encode()
print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
data = bytes(range(256)) * 4096
while True:
    socket.send_multipart([*socket.recv_multipart(), data], copy=False)
"""


@dataclass(frozen=True)
class Target:
    """A server to measure."""

    port: int  # of the data socket
    control: int
    request: list[bytes | memoryview]
    pairing: Pairing | None

    def connect(self, context: zmq.Context, port: int) -> zmq.Socket:
        """A socket that speaks with it."""
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        if self.pairing is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, self.pairing.server_public)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self.pairing.client_public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self.pairing.client_secret)
        socket.connect(f"tcp://127.0.0.1:{port}")
        return socket


@contextmanager
def service(data: Path, pairing: Pairing | None):
    """A real service with one finished job."""
    bind = "tcp://0.0.0.0:0" if pairing else "tcp://127.0.0.1:0"
    command = [
        sys.executable,
        "-m",
        "crowdgaussian",
        "serve",
        "--data",
        str(data),
        "--bind",
        bind,
        "--pipeline",
        "builtins:print",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    words = process.stdout.readline().split()
    request = encode(m.Fetch(1, JOB, FILE.name, 3 << 20, FILE.blake2b))
    try:
        control = int(words[2].rstrip(",").rsplit(":", 1)[1])
        yield Target(int(words[-1]), control, request, pairing)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def raw_server(pairing: Pairing | None):
    """ZeroMQ and nothing else."""
    command = [sys.executable, "-c", RAW_SERVER]
    if pairing is not None:
        public, secret = zmq.curve_keypair()
        command.append(secret.decode())
        pairing = Pairing("raw", z85.decode(public), pairing.client_public, pairing.client_secret)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Target(int(process.stdout.readline()), 0, [b"next"], pairing)
    finally:
        process.kill()
        process.wait()


def prepare(data: Path, owner: str) -> None:
    """A data folder with one finished job and its file."""
    folders = Folders(data)
    folders.make()
    store = Store(folders.database)
    now = time.time()
    row = JobRow(JOB, owner, "running", "key", "a.png", 5, "ab" * 32, "open", {}, now, now)
    store.put(row)
    store.put(store.append(row, (FILE,)))
    folders.results.open_folders("key")
    folders.results.path("key", FILE).write_bytes(bytes(range(256)) * (FILE.size // 256))
    store.append(JobRow(**{**vars(store.get(JOB)), "state": "done"}))
    store.close()


def pull(target: Target, chunks: int, stop: threading.Event) -> None:
    """One client that keeps 8 requests under way until it has its chunks or is stopped."""
    context = zmq.Context()
    socket = target.connect(context, target.port)
    for _ in range(min(m.CREDIT, chunks)):
        socket.send_multipart(target.request)
    for received in range(chunks):
        frames = socket.recv_multipart(copy=False)
        if len(frames[-1]) != m.CHUNK_BYTES:
            raise RuntimeError("no chunk came back")
        if stop.is_set():
            break
        if received + m.CREDIT < chunks:
            socket.send_multipart(target.request)
    context.destroy(linger=0)


def throughput(target: Target, clients: int, mib: int) -> float:
    """Bytes per second that so many clients get together."""
    chunks = max(2 * m.CREDIT, mib // clients)
    threads = [
        threading.Thread(target=pull, args=(target, chunks, threading.Event()))
        for _ in range(clients)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clients * chunks * m.CHUNK_BYTES / (time.perf_counter() - started)


def latencies(target: Target, clients: int, pings: int) -> list[float]:
    """Seconds of each PING on the control socket while so many clients pull without end."""
    stop = threading.Event()
    threads = [threading.Thread(target=pull, args=(target, 10**9, stop)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    context = zmq.Context()
    socket = target.connect(context, target.control)
    ask(socket, m.Hello(1, "benchmark", JOB))
    times = []
    for number in range(pings):
        started = time.perf_counter()
        ask(socket, m.Ping(number))
        times.append(time.perf_counter() - started)
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    context.destroy(linger=0)
    return sorted(times)


def ask(socket: zmq.Socket, message: m.Message) -> None:
    socket.send_multipart(encode(message))
    decode(socket.recv_multipart())


def compare(title: str, data: Path, pairing: Pairing | None, rounds: int, mib: int) -> None:
    """Prints the table of one kind of connection."""
    with raw_server(pairing) as raw, service(data, pairing) as served:
        for clients in CLIENTS:
            pairs = [
                (throughput(raw, clients, mib), throughput(served, clients, mib))
                for _ in range(rounds)
            ]
            ratio = statistics.median(b / a for a, b in pairs)
            raw_rate, rate = (statistics.median(column) / 1e6 for column in zip(*pairs))
            waits = latencies(served, clients, 100)
            print(
                f"{title:>6} {clients:>8} {raw_rate:>9.0f} {rate:>9.0f} {ratio:>7.0%} "
                f"{1e3 * statistics.median(waits):>11.1f} {1e3 * waits[94]:>8.1f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=256, help="per measurement")
    arguments = parser.parse_args()
    print(
        f"{'':>6} {'clients':>8} {'raw MB/s':>9} {'MB/s':>9} {'share':>7} "
        f"{'ping ms, 50%':>11} {'95%':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        plain, secure = Path(folder, "plain"), Path(folder, "curve")
        prepare(plain, "local:x")
        prepare(secure, "key:benchmark")
        pairing = KeyFolder(secure / "keys").new("benchmark")
        compare("plain", plain, None, arguments.rounds, arguments.mib)
        compare("CURVE", secure, pairing, arguments.rounds, arguments.mib)


if __name__ == "__main__":
    main()
