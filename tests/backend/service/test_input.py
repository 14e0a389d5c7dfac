# SPDX-License-Identifier: Apache-2.0
"""What a live service does with what it should not be sent: one clear refusal, and no growth."""

import io
import json
import random
import socket
import struct
import time
import uuid
import zlib
from contextlib import suppress

import pytest
import zmq
from _support.service_running import Client
from crowdgaussian_shared.protocol import decode, encode
from crowdgaussian_shared.protocol import messages as m
from crowdgaussian_shared.protocol.wire import MAGIC
from PIL import Image

JOB = "0f8fad5b-d9cb-469f-a165-70867728950e"


def refusal(client, frames, where="control"):
    channel = getattr(client, where)
    channel.send_multipart(frames)
    answer, _ = client.receive(channel)
    assert isinstance(answer, m.Error), answer
    assert answer.message.endswith(".") and "\n" not in answer.message
    return answer


@pytest.mark.parametrize("where", ["control", "data"])
def test_another_version_is_told_to_update(client, where):
    for rest in ([b"PING", b'{"request": 7}'], [b"SOMETHING", b"\xff\xfe", b"else"], [b"", b""]):
        answer = refusal(client, [MAGIC, b"\x02\x05", *rest], where)
        assert answer.code == "version" and "update CrowdGaussian" in answer.message
    answer = refusal(client, [MAGIC, b"\x02\x05", b"PING", b'{"request": 7}'], where)
    assert answer.request == 7


@pytest.mark.parametrize("where", ["control", "data"])
@pytest.mark.parametrize(
    "frames", [[b""], [b"GET / HTTP/1.1"], [MAGIC, b"\x01\x00", b"PING", b"{"],
               [MAGIC, b"\x01\x00", b"PING", b"{}"] + [b""] * 60,
               encode(m.Pong(1)), encode(m.Busy(1, "no", 1.0))],
)  # fmt: skip
def test_what_is_no_request_is_refused(client, where, frames):
    assert refusal(client, frames, where).code == "message"


def test_requests_on_the_wrong_socket_are_refused(client):
    assert "data socket" in refusal(client, encode(m.Fetch(1, JOB, "scene.json"))).message
    assert "control socket" in refusal(client, encode(m.List(1)), "data").message


@pytest.mark.parametrize("kind", [m.Status, m.Attach, m.Cancel, m.Delete])
def test_unknown_jobs(client, kind):
    assert client.ask(kind, job=JOB).code == "unknown-job"
    assert client.ask(kind, job="../../etc/passwd").code == "unknown-job"


def test_unknown_jobs_on_the_data_socket(client):
    assert client.ask(m.Fetch, client.data, job=JOB, artifact="scene.json").code == "unknown-job"
    assert client.ask(m.Upload, client.data, (b"x",), job=JOB, offset=0).code == "unknown-job"


def test_a_name_that_was_not_announced_is_refused(client, photo):
    job, _ = client.submit(photo)
    client.follow(job)
    for name in (
        "../uploads/x",
        "/etc/passwd",
        "people/../scene.json",
        "people/000/fit.npz",
        "timings.json",
        "scene.json\0",
        "C:\\x",
        "",
        "SCENE.JSON",
    ):
        assert client.fetch(job, name).code == "unknown-artifact"
    assert client.fetch(job, "scene.json", "../" * 16 + "etc/passwd").code == "unknown-artifact"
    assert client.fetch(job, "scene.json", offset=10**9).code == "unknown-artifact"


def submit(client, **changes):
    fields = {
        "job": str(uuid.uuid4()),
        "photo_name": "a.png",
        "photo_bytes": 10,
        "photo_blake2b": "ab" * 32,
    }
    return client.ask(m.Submit, **{**fields, **changes})


@pytest.mark.parametrize(
    "changes, code, words",
    [
        ({"photo_bytes": 2 << 30}, "limit", "up to 64 MiB"),
        ({"photo_bytes": 0}, "limit", "up to 64 MiB"),
        ({"job": "../../x"}, "message", "UUID"),
        ({"settings": {"people.command": "touch /tmp/x {photo} {out}"}}, "message", "its owner"),
        ({"settings": {"people.results": "/etc/passwd"}}, "message", "its owner"),
        ({"settings": {"people.multihmr": "/etc/passwd"}}, "message", "its owner"),
        ({"job": JOB.upper()}, "message", "UUID"),
        ({"photo_blake2b": "../x"}, "message", "hexadecimal"),
        ({"preset": "paper"}, "message", "weights fetch --preset paper"),
        ({"preset": "none"}, "message", "no preset"),
        ({"settings": {"avatar.sparkle": "1"}}, "message", "no setting"),
        ({"settings": {"avatar.gaussians": "many"}}, "message", "no value"),
        ({"settings": {"people.max_people": "101"}}, "limit", "up to 100 people"),
    ],
)
def test_a_submit_that_cannot_be(client, changes, code, words):
    answer = submit(client, **changes)
    assert isinstance(answer, m.Error) and answer.code == code and words in answer.message


def test_a_photo_that_is_not_the_announced_one(client, photo):
    job, _ = client.submit(photo, upload=False)
    answer = client.upload(job, photo[:-1] + b"?")
    assert answer.code == "photo" and "send it again" in answer.message
    assert client.status(job).job.received == 0
    too_long = client.ask(m.Upload, client.data, (photo + b"x",), job=job, offset=0)
    assert too_long.code == "photo"
    assert isinstance(client.upload(job, photo), m.Uploaded)
    assert client.follow(job)[-1].state == "done"


def png_claiming(width, height, body=b""):
    """A PNG whose header says so and whose rows are the body."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("width, height", [(2**31 - 1, 2**31 - 1), (20_000, 20_000)])
def test_a_picture_that_claims_to_be_huge_is_refused_by_its_header(client, width, height):
    bomb = png_claiming(width, height, zlib.compress(bytes(1 << 20), 9))
    job, answer = client.submit(bomb)
    assert answer.code == "photo" and "make it smaller" in answer.message
    last = client.follow(job)[-1]
    assert last.state == "failed" and str(width) in last.error


def test_a_decompression_bomb_ends_in_one_sentence(service, client):
    """Within the limit of pixels, but with rows without end behind them."""
    bomb = png_claiming(3000, 3000, zlib.compress(bytes(300 << 20), 9))
    job, _ = client.submit(bomb, "bomb.png")
    last = client.follow(job)[-1]
    assert last.state in ("failed", "done")
    fine, _ = client.submit(png_of(64 + 16), "after.png")
    assert client.follow(fine)[-1].state == "done"


def png_of(side):
    buffer = io.BytesIO()
    Image.new("RGB", (side * 2, side), (9, 99, int(time.time()) % 256)).save(buffer, "PNG")
    return buffer.getvalue()


def test_something_that_is_no_photo(client):
    job, _ = client.submit(b"%PDF-1.7 this is no photo" + uuid.uuid4().bytes, "letter.pdf")
    last = client.follow(job)[-1]
    assert last.state == "failed" and last.error.startswith("letter.pdf is a PDF document")


def test_a_frame_of_two_gigabytes_is_not_waited_for(service, client):
    before = service.memory()
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32)
    for port in (service.port, service.data_port):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(greeting)
            raw.sendall(b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER")
            raw.sendall(b"\x02" + struct.pack(">Q", 2 << 30) + b"x" * 1000)
            raw.settimeout(10)
            # Until libzmq hangs up, which is a reset where it leaves bytes unread.
            with suppress(ConnectionResetError):
                while raw.recv(4096):
                    pass
    assert isinstance(client.ask(m.Ping), m.Pong)
    assert service.memory() - before < 20 << 20


EXAMPLES = [
    (m.Hello(1, "fuzzer", JOB), ()),
    (m.Status(4, JOB), ()),
    (m.Attach(5, JOB, 1), ()),
    (m.Cancel(7, JOB), ()),
    (m.List(8), ()),
    (m.Delete(9, JOB), ()),
    (m.Download(11, "open-large"), ()),
    (m.Ping(10), ()),
    (m.Submit(2, JOB, "a.png", 5000, "ef" * 32, "open", {"avatar.seed": "3"}), ()),
    (m.Upload(3, JOB, 0), (b"some of the photo",)),
    (m.Fetch(6, JOB, "scene.json", 0), ()),
]


def mutated(rng):
    frames = [bytearray(f) for f in encode(*rng.choice(EXAMPLES))]
    for _ in range(rng.randint(1, 4)):
        frame = rng.choice(frames)
        at, action = rng.randrange(len(frame) + 1), rng.randrange(6)
        if action == 0:
            frame.insert(at, rng.randrange(256))
        elif action == 1 and at < len(frame):
            del frame[at]
        elif action == 2 and len(frames) > 1:
            frames.pop(rng.randrange(len(frames)))
        elif action == 3:
            frames.insert(rng.randrange(len(frames) + 1), bytearray(rng.randbytes(at)))
        elif action == 4:
            frame *= rng.randrange(3)
        elif at < len(frame):
            frame[at] = rng.randrange(256)
    return [bytes(f) for f in frames]


def drain(channel, answers):
    while channel.poll(0):
        answers.append(decode(channel.recv_multipart())[0])


def test_ten_thousand_mutated_messages(service, client):
    """Each is answered once or dropped; the broker neither falls nor grows."""
    rng = random.Random(20261121)
    answers = []
    fuzz(client, rng, 2000, answers)
    before = service.memory()
    fuzz(client, rng, 8000, answers)
    assert service.memory() - before < 16 << 20
    assert service.process.poll() is None
    replies = [a for a in answers if not isinstance(a, m.Event)]  # some mutants are whole jobs
    errors = [a for a in replies if isinstance(a, m.Error)]
    assert 4000 < len(errors) <= len(replies) <= 10_000
    assert not [e for e in errors if e.code == "internal"], errors
    with Client(service.port, service.data_port) as fresh:
        assert isinstance(fresh.ask(m.Ping), m.Pong)
    assert "Traceback" not in service.log.read_text()


def fuzz(client, rng, count, answers):
    for index in range(count):
        channel = client.control if index % 2 else client.data
        channel.send_multipart(mutated(rng))
        if index % 16 == 15:
            drain(client.control, answers)
            drain(client.data, answers)
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline and zmq.select([client.control, client.data], [], [], 0.3)[0]:
        drain(client.control, answers)
        drain(client.data, answers)


def test_an_upload_is_in_order_and_bounded(client, photo):
    job, _ = client.submit(photo, upload=False)
    big = client.ask(m.Upload, client.data, (bytes(m.CHUNK_BYTES + 1),), job=job, offset=0)
    assert big.code == "photo"
    client.ask(m.Cancel, job=job)
    late = client.ask(m.Upload, client.data, (photo,), job=job, offset=0)
    assert late.code == "state"
    assert json.loads(encode(late)[3])["code"] == "state"
