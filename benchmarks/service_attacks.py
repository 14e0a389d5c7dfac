# SPDX-License-Identifier: Apache-2.0
"""How long somebody waits for a STATUS while somebody else attacks the service.

A bystander in a process of its own asks 50 times a second, whether or not it was answered, so that
a stall counts in full. Each attack is bounded in time and count. The rows `nobody` say what the
machine itself costs at that time; `step` is how many ms the longest step of the broker's loop
computed, whatever else the machine had to do. Broker and workers are real, the stages stand-ins.

    python benchmarks/service_attacks.py [NAME...] [--seconds 4]
"""

import argparse
import io
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

import zmq
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from _support.service_running import Client, Service, serving  # noqa: E402
from _support.stand_ins import write_photo  # noqa: E402
from crowdgaussian_shared.protocol import encode  # noqa: E402
from crowdgaussian_shared.protocol import messages as m  # noqa: E402

MOST = 0.25  # seconds that STATUS may take, 99 % of the times
EVERY = 0.02  # seconds between two questions of the bystander
STEPS = "CROWDGAUSSIAN_TEST_STEPS"  # variable: the file of the broker's steps
SETTLE = 1.0  # seconds after an attack that count as it
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(52, b"\0")
READY = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
BYSTANDER = """
import sys, time, zmq
sys.path.insert(0, sys.argv[1])
from _support.service_running import Client
from crowdgaussian_shared.protocol import messages as m
with Client(int(sys.argv[2]), int(sys.argv[3])) as client:
    asked, due = {}, time.monotonic()
    print("here", flush=True)
    while True:
        if time.monotonic() >= due:
            asked[client.send(m.Status, job=sys.argv[4])] = due
            due += float(sys.argv[5])
        if client.control.poll(max(0, 1000 * (due - time.monotonic()))):
            answer, _ = client.receive()
            assert isinstance(answer, m.JobInfo), answer
            sent = asked.pop(answer.request)
            print(sent, time.monotonic() - sent, flush=True)
"""
Attack = Callable[[Service, float], int]  # seconds it may last -> how often it struck


def nobody(service: Service, seconds: float) -> int:
    time.sleep(seconds)
    return 0


def attach_without_reading(service: Service, seconds: float) -> int:
    with Client(service.port, service.data_port) as one:
        job, _ = one.submit(b"a photo", upload=False)
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                one.control.send_multipart(encode(m.Attach(1, job, 0)), zmq.NOBLOCK)
                count += 1
            except zmq.Again:
                time.sleep(0.001)
    return count


def millions_of_frames(service: Service, seconds: float) -> int:
    """6 MiB on the wire each, to either port."""
    count, end = 0, time.monotonic() + seconds
    for port in (service.port, service.data_port):
        with connection(port) as raw, suppress(OSError):
            for _ in range(48):
                raw.sendall(b"\x01\x00" * 65536)
            raw.sendall(b"\x00\x00")
            count += 1
    time.sleep(max(0.0, end - time.monotonic()))
    return count


def fill_bytes(service: Service, seconds: float) -> int:
    """JPEGs of 32 MiB that are nothing but fill bytes."""
    return uploads(service, seconds, b"\xff\xd8" + b"\xff" * (32 << 20))


def cancelled_uploads(service: Service, seconds: float) -> int:
    return uploads(service, seconds, bytes(20 << 20))


def uploads(service: Service, seconds: float, photo: bytes) -> int:
    count, end = 0, time.monotonic() + seconds
    with Client(service.port, service.data_port) as one:
        while time.monotonic() < end:
            count += 1
            job, _ = one.submit(photo + str(count).encode(), name="a.png")
            one.ask(m.Cancel, job=job)
    return count


def other_photo_while_hashed(service: Service, seconds: float) -> int:
    """CANCEL and SUBMIT while the data thread hashes."""
    photo, count, end = bytes(16 << 20), 0, time.monotonic() + seconds
    with Client(service.port, service.data_port) as one:
        while time.monotonic() < end:
            count += 1
            job, _ = one.submit(photo + str(count).encode(), upload=False)
            for at in range(0, len(photo), m.CHUNK_BYTES):
                one.ask(m.Upload, one.data, (photo[at : at + m.CHUNK_BYTES],), job=job, offset=at)
            one.send(m.Upload, one.data, (str(count).encode(),), job=job, offset=len(photo))
            one.ask(m.Cancel, job=job)
            one.submit(photo + str(count).encode(), job=job, upload=False)
            one.ask(m.Cancel, job=job)
            one.receive(one.data)
    return count


def corrections(service: Service, seconds: float) -> int:
    """Six jobs of up to 900 corrections each, which wait behind their base."""
    photo = noise(7)
    with Client(service.port, service.data_port) as one:
        jobs = [one.submit(photo, "slow-people9.png")[0]]
        for k in range(6):
            steps = [{"excluded": [i % 3]} for i in range(900 - k)]
            edit = json.dumps({"edits": steps}, separators=(",", ":"))
            jobs.append(one.submit(photo, "slow-people9.png", edit=edit)[0])
        time.sleep(seconds)
        for job in jobs:
            one.ask(m.Cancel, job=job)
    return len(jobs)


def hostile_pictures(service: Service, seconds: float) -> int:
    pictures = [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EOF\n", b"x"]
    zeros, bomb = zlib.compress(b"\0" * (481 * 120)), zlib.compress(bytes(9 * 10**7), 9)
    pictures.append(png(60_000, 60_000, b"x"))
    pictures.append(png(160, 120, bomb))
    pictures.append(png(160, 120, zeros, chunk(b"zTXt", b"k\0\0" + bomb) * 20))
    pictures.append(png(160, 120, zeros, chunk(b"iCCP", b"k\0\0" + bomb)))
    stream = io.BytesIO()
    Image.new("L", (9000, 9000)).save(stream, "TIFF", compression="tiff_deflate")
    pictures.append(stream.getvalue())
    end = time.monotonic() + seconds
    with Client(service.port, service.data_port) as one:
        jobs = [one.submit(picture, "holiday.jpg")[0] for picture in pictures]
        time.sleep(max(0.0, end - time.monotonic()))
        for job in jobs:
            one.ask(m.Cancel, job=job)
    return len(jobs)


def idle_connections(service: Service, seconds: float) -> int:
    """1,200 on the control port that have shaken hands, more than there are places."""
    with ExitStack() as stack:
        for _ in range(1200):
            stack.enter_context(connection(service.port))
        time.sleep(seconds)
    return 1200


def big_messages(service: Service, seconds: float) -> int:
    """One message of 256 frames of 1 MiB, and frames larger than a message may be."""
    count, end = 0, time.monotonic() + seconds
    frame = b"\x03" + (1 << 20).to_bytes(8, "big") + bytes(1 << 20)
    with connection(service.port) as raw:
        for _ in range(255):
            raw.sendall(frame)
        raw.sendall(b"\x02" + frame[1:])
        while time.monotonic() < end:
            count += 1
            with connection(service.port) as other, suppress(OSError):
                other.sendall(b"\x02" + (5 << 20).to_bytes(8, "big") + bytes(1 << 16))
    return count


def fetches_without_reading(service: Service, seconds: float) -> int:
    count, end = 0, time.monotonic() + seconds
    with ExitStack() as stack:
        many = [stack.enter_context(Client(service.port, service.data_port)) for _ in range(6)]
        job, _ = many[0].submit(noise(0), "people1.png")
        many[0].follow(job)
        while time.monotonic() < end:
            for one in many:
                with suppress(zmq.Again):
                    fetch = encode(m.Fetch(1, job, "people/000/avatar.npz"))
                    one.data.send_multipart(fetch, zmq.NOBLOCK)
                    count += 1
    return count


def known_photos(service: Service, seconds: float) -> int:
    """A photo whose result is known, under a new name each time, from eight connections."""
    photo, count, end = noise(0), 0, time.monotonic() + seconds
    with ExitStack() as stack:
        many = [stack.enter_context(Client(service.port, service.data_port)) for _ in range(8)]
        many[0].follow(many[0].submit(photo, "people1.png")[0])
        while time.monotonic() < end:
            for one in many:
                one.submit(photo, f"{count}people1.png", upload=False)
                count += 1
    return count


def replays(service: Service, seconds: float) -> int:
    """Ten clients have 1,500 events told again and again."""
    count, end = 0, time.monotonic() + seconds
    with ExitStack() as stack:
        many = [stack.enter_context(Client(service.port, service.data_port)) for _ in range(10)]
        job, _ = many[0].submit(noise(3), "chatty-people1.png")
        many[0].follow(job, timeout=120)
        while time.monotonic() < end:
            for one in many:
                one.send(m.Attach, job=job, last_seq=0)
                count += 1
            for one in many:
                while not (isinstance(said := one.receive()[0], m.Event) and said.state == "done"):
                    pass
    return count


def mutants(service: Service, seconds: float) -> int:
    """Messages of which some bytes were changed, on both sockets."""
    rng, count, end = random.Random(4), 0, time.monotonic() + seconds
    job = "0f8fad5b-d9cb-469f-a165-70867728950e"
    said = (m.Status(1, job), m.Attach(1, job, 0), m.Submit(1, job, "a", 5, "ef" * 32), m.List(1))
    with Client(service.port, service.data_port) as one:
        while time.monotonic() < end:
            frames = [bytearray(frame) for frame in encode(rng.choice(said))]
            for _ in range(rng.randint(1, 4)):
                frame = rng.choice(frames)
                frame[rng.randrange(len(frame)) :] = rng.randbytes(rng.randrange(2000))
            for channel in (one.control, one.data):
                with suppress(zmq.Again):
                    channel.send_multipart(frames, zmq.NOBLOCK)
                while channel.poll(0):
                    channel.recv_multipart()
                count += 1
    return count


ATTACKS: tuple[Attack, ...] = (
    attach_without_reading,
    millions_of_frames,
    big_messages,
    idle_connections,
    mutants,
    replays,
    known_photos,
    fetches_without_reading,
    fill_bytes,
    cancelled_uploads,
    other_photo_while_hashed,
    corrections,
    hostile_pictures,
)


def connection(port: int) -> socket.socket:
    """One that has shaken hands."""
    raw = socket.create_connection(("127.0.0.1", port), 10)
    raw.sendall(GREETING + READY)
    raw.recv(1)
    return raw


def noise(seed: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_photo(Path(folder) / "a.png", seed).read_bytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, body: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def serve(arguments: list[str]) -> int:
    """The broker, which writes down when each step of its loop began and how long it computed.

    A step is a message that is answered, or all the rest of a turn: nobody waits for more than one
    of each connection.
    """
    from crowdgaussian.cli.main import main
    from crowdgaussian.service.broker import Broker

    read, turn, inside = Broker._read, Broker._turn, [0.0]
    with open(os.environ[STEPS], "w", buffering=1) as stream:

        def timed_read(broker: Broker, envelope: object) -> None:
            used = time.thread_time()
            read(broker, envelope)  # type: ignore[arg-type]
            used = time.thread_time() - used
            inside[0] += used
            stream.write(f"{time.monotonic()} {used}\n")

        def timed_turn(broker: Broker) -> None:
            used, inside[0] = time.thread_time(), 0.0
            turn(broker)
            stream.write(f"{time.monotonic()} {time.thread_time() - used - inside[0]}\n")

        for name, step in (("_read", timed_read), ("_turn", timed_turn)):
            setattr(Broker, name, step)
        return main(arguments)


def numbers(lines: Iterable[str]) -> list[tuple[float, float]]:
    """Pairs of numbers, one a line; the last one may be cut."""
    pairs = (line.split() for line in lines if line[0].isdigit() and line.endswith("\n"))
    return [(float(a), float(b)) for a, b in pairs]


def percent(times: list[float], share: float) -> float:
    """Milliseconds within which so many of the answers came."""
    return 1e3 * sorted(times)[min(len(times) - 1, int(share * len(times)))]


def measure(service: Service, chosen: list[Attack], seconds: float) -> int:
    """Prints a row for each attack -> those during which STATUS took too long."""
    with Client(service.port, service.data_port) as client:
        job, _ = client.submit(noise(99), "people1.png")
        client.follow(job)
    arguments = [str(ROOT / "tests"), str(service.port), str(service.data_port), job, str(EVERY)]
    with tempfile.TemporaryFile("w+") as said:
        command = [sys.executable, "-c", BYSTANDER, *arguments]
        bystander = subprocess.Popen(command, stdout=said)
        time.sleep(2.0)
        windows = []
        for attack in chosen:
            started = time.monotonic()
            count = attack(service, seconds)
            time.sleep(SETTLE)
            windows.append((attack.__name__, count, started, time.monotonic()))
        time.sleep(SETTLE)
        bystander.kill()
        bystander.wait()
        said.seek(0)
        answers = numbers(said)
    with (service.data.parent / "steps").open() as stream:
        steps = numbers(stream)
    over = 0
    print("attack                       times    step   asked    50 %    99 %    most")
    for name, count, start, end in windows:
        waits = [wait for sent, wait in answers if start <= sent < end] or [end - start]
        step = max((used for ended, used in steps if start <= ended < end), default=0.0)
        p50, p99, most = percent(waits, 0.5), percent(waits, 0.99), percent(waits, 1.0)
        over += p99 > 1e3 * MOST
        print(
            f"{name:<26} {count:>7} {1e3 * step:>7.0f} {len(waits):>7} "
            f"{p50:>7.0f} {p99:>7.0f} {most:>7.0f} ms"
        )
    return over


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = {attack.__name__: attack for attack in ATTACKS}
    parser.add_argument("attacks", nargs="*", choices=[*names, []], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=4.0, help="that each attack lasts")
    arguments = parser.parse_args()
    chosen = [names[name] for name in arguments.attacks] or [*ATTACKS]
    rows = [nobody, *chosen, nobody]
    with tempfile.TemporaryDirectory() as folder:
        limits = ("--set", "jobs_per_client=16", "--workers", "2")
        paths = (str(ROOT / "benchmarks"), str(ROOT / "tests"), os.environ.get("PYTHONPATH"))
        more = {
            STEPS: str(Path(folder) / "steps"),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        running = {"program": "service_attacks", "environment": more}
        with serving(Path(folder) / "data", *limits, **running) as service:
            over = measure(service, rows, arguments.seconds)
    return int(over > 0)


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:]) if sys.argv[1:2] == ["serve"] else main())
