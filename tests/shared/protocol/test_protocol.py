# SPDX-License-Identifier: Apache-2.0
"""The protocol's codec: every message survives the wire, every mistake is refused by name."""

import json
import random

import pytest
from crowdgaussian_shared.protocol import MESSAGES, ProtocolError, decode, encode
from crowdgaussian_shared.protocol import messages as m
from crowdgaussian_shared.protocol.wire import HEADER_LIMIT, MAGIC

JOB = "0f8fad5b-d9cb-469f-a165-70867728950e"
PROGRESS = m.Progress("people", 0.25, 1, 6, "fitting")
ARTIFACT = m.Artifact("people/000/avatar.npz", 2_600_000, "ab" * 32)
STATE = m.Job(JOB, "running", "park.jpg", "open", 1.5, 0, 10, PROGRESS, "", 7)
MODEL = m.Model("pose", "0.10.21", "cd" * 32, "Apache-2.0", True)
PRESET = m.Preset("open", True, True, "free to use", "", (MODEL,))

EXAMPLES = [
    m.Hello(1, "blender-addon 0.1.0", JOB),
    m.Submit(2, JOB, "park.jpg", 528_106, "ef" * 32, "open", {"avatar.gaussians": "20000"}),
    m.Upload(3, JOB, 1 << 20),
    m.Status(4, JOB),
    m.Attach(5, JOB, 12),
    m.Fetch(6, JOB, "scene.json", 0),
    m.Cancel(7, JOB),
    m.List(8),
    m.Delete(9, JOB),
    m.Ping(10),
    m.Welcome(1, "0.1.0", 5556, m.Device("cpu", "2 cores", 8, 4), m.Limits(), (PRESET,)),
    m.Busy(2, "64 jobs are waiting", 12.5),
    m.JobInfo(4, STATE),
    m.Jobs(8, (STATE, STATE)),
    m.Event(0, JOB, 3, "running", PROGRESS, (ARTIFACT,)),
    m.Uploaded(3, JOB, 2 << 20),
    m.Chunk(6, JOB, "scene.json", 0, 5000),
    m.Done(9),
    m.Pong(10),
    m.Error(4, "unknown-job", "There is no such job."),
    m.Download(11, "open-large", True),
    m.DownloadInfo(11, PRESET, "running", 10, 1_414_000_000),
]
WITH_PAYLOAD = (m.Upload, m.Chunk)


def frames_of(message, **changes):
    frames = encode(message, (b"data",) if isinstance(message, WITH_PAYLOAD) else ())
    header = json.loads(frames[3])
    for name, value in changes.items():
        header[name] = value
    return [*frames[:3], json.dumps(header).encode(), *frames[4:]]


def test_every_message_has_an_example():
    assert {type(e) for e in EXAMPLES} == set(MESSAGES.values())


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda e: type(e).__name__)
def test_every_message_survives_the_wire(message):
    payloads = (b"\x00data",) if isinstance(message, WITH_PAYLOAD) else ()
    assert decode(encode(message, payloads)) == (message, payloads)


def test_an_unknown_field_is_ignored():
    assert decode(frames_of(m.Ping(1), colour="red"))[0] == m.Ping(1)


@pytest.mark.parametrize(
    "message, changes, words",
    [
        (m.Ping(1), {"request": "1"}, "PING: request must be a whole number"),
        (m.Ping(1), {"request": True}, "PING: request must be a whole number"),
        (m.Ping(1), {"request": -1}, "PING: request must be a whole number"),
        (EXAMPLES[1], {"photo_bytes": 2**41}, "SUBMIT: photo_bytes must be"),
        (EXAMPLES[1], {"settings": {"a": 3}}, "SUBMIT: settings.a must be a text"),
        (EXAMPLES[1], {"settings": {str(i): "" for i in range(101)}}, "settings must be an object"),
        (EXAMPLES[1], {"job": "x" * 37}, "SUBMIT: job must be a text of at most 36"),
        (
            EXAMPLES[12],
            {"job": {**json.loads(encode(EXAMPLES[12])[3])["job"], "state": "lost"}},
            "JOBINFO: job.state must be one of",
        ),
        (EXAMPLES[14], {"progress": {"fraction": 2}}, "EVENT: progress.fraction must be a number"),
        (EXAMPLES[14], {"artifacts": [{"name": "a", "size": 1}]}, "artifacts[0].blake2b is"),
    ],
)
def test_a_wrong_field_is_named(message, changes, words):
    with pytest.raises(ProtocolError) as error:
        decode(frames_of(message, **changes))
    assert words in str(error.value)
    assert error.value.code == "message"


def test_a_missing_field_is_named():
    frames = encode(m.Status(4, JOB))
    with pytest.raises(ProtocolError, match="STATUS: job is missing"):
        decode([*frames[:3], b'{"request": 4}'])


def test_another_major_version_says_who_must_update():
    frames = encode(m.Ping(1))
    with pytest.raises(ProtocolError, match="update CrowdGaussian on this side") as error:
        decode([MAGIC, b"\x02\x00", *frames[2:]])
    assert error.value.code == "version"


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"CGSC"],
        [b"XXXX", b"\x01\x00", b"PING", b"{}"],
        [MAGIC, b"\x01", b"PING", b"{}"],
        [MAGIC, b"\x01\x00", b"PONGO", b"{}"],
        [MAGIC, b"\x01\x00", b"PING", b"[]"],
        [MAGIC, b"\x01\x00", b"PING", b"{"],
        [MAGIC, b"\x01\x00", b"PING", b"[" * 50_000],
        [MAGIC, b"\x01\x00", b"PING", b'{"request": NaN}'],
        [MAGIC, b"\x01\x00", b"PING", b'{"request": 1' + b"0" * 5000 + b"}"],
        [MAGIC, b"\x01\x00", b"PING", b" " * (HEADER_LIMIT + 1)],
        [MAGIC, b"\x01\x00", b"PING", b'{"request": 1}', b"payload"],
        [MAGIC, b"\x01\x00", b"PING", b'{"request": 1}'] + [b""] * 5,
        [MAGIC, b"\x01\x00", b"UPLOAD", b'{"request":1,"job":"a","offset":0}', b"x" * (3 << 20)],
    ],
)
def test_frames_of_something_else_are_refused(frames):
    with pytest.raises(ProtocolError):
        decode(frames)


def test_ten_thousand_mutated_frames_are_decoded_or_refused():
    rng = random.Random(7)
    originals = [encode(e, (b"data",) if isinstance(e, WITH_PAYLOAD) else ()) for e in EXAMPLES]
    refused = 0
    for _ in range(10_000):
        frames = [bytearray(f) for f in rng.choice(originals)]
        for _ in range(rng.randint(1, 4)):
            frame = rng.choice(frames)
            at = rng.randrange(len(frame) + 1)
            action = rng.randrange(4)
            if action == 0:
                frame.insert(at, rng.randrange(256))
            elif action == 1 and at < len(frame):
                del frame[at]
            elif at < len(frame):
                frame[at] = rng.randrange(256)
            if action == 3 and len(frames) > 1:
                frames.pop(rng.randrange(len(frames)))
        try:
            decode([bytes(f) for f in frames])
        except ProtocolError:
            refused += 1
    assert 5000 < refused <= 10_000
