# SPDX-License-Identifier: Apache-2.0
"""The project's client in tests: following jobs, and in a process that can be killed."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from crowdgaussian_shared.client.client import Client
from crowdgaussian_shared.client.server import Server
from crowdgaussian_shared.client.ticket import JobRequest
from crowdgaussian_shared.client.updates import JobUpdate, SceneUpdate, ServerUpdate
from crowdgaussian_shared.scene.folder import SCENE_FILE, SceneFolder
from crowdgaussian_shared.scene.schema import hash_bytes, hash_file
from PIL import Image

from _support.service_running import Client as RawClient
from _support.service_running import artifacts_of

WAIT = 30.0  # seconds, for anything

FOLLOWER = """
import sys, time
from crowdgaussian_shared.client.client import Client
from crowdgaussian_shared.client.server import Server
from crowdgaussian_shared.client.ticket import JobRequest
from crowdgaussian_shared.client.updates import SceneUpdate
from crowdgaussian_shared.scene.folder import SceneFolder
photo, out, address, data_port = sys.argv[1:]
client = Client(Server.parse(address, data_port=int(data_port)), "follower", "0" * 36)
print(client.submit(JobRequest(photo, out)), flush=True)
while True:
    client.pump()
    for update in client.poll():
        if isinstance(update, SceneUpdate):
            print(*(p.state for p in SceneFolder.open(out).info.people), flush=True)
"""


def noise_photo(path: Path, side=64, seed=0) -> Path:
    """A photo that cannot be compressed; the file has about 3 side^2 bytes."""
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def server_of(service, data_port=0) -> Server:
    return Server.parse(f"tcp://127.0.0.1:{service.port}", data_port=data_port)


def pump_until(client: Client, enough, seconds=WAIT):
    """Pumps a client without a thread -> all updates up to the one that is enough."""
    updates, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        client.pump(0.05)
        for update in client.poll():
            updates.append(update)
            if isinstance(update, SceneUpdate):
                check_scene(update.folder)
            if enough(update):
                return updates
    raise TimeoutError(f"not in {seconds} s; the last updates: {updates[-3:]}")


def finished(update) -> bool:
    return isinstance(update, JobUpdate) and update.finished


def lost(update) -> bool:
    return isinstance(update, ServerUpdate) and update.state == "lost"


def run_job(client: Client, photo: Path, out: Path) -> JobUpdate:
    client.submit(JobRequest(photo, out))
    return pump_until(client, finished)[-1]


def start_follower(photo, out, service, data_port=0) -> subprocess.Popen:
    """A client in a process of its own, which prints the job's id and then people's states.

    End it with stop_follower.
    """
    command = [
        sys.executable,
        "-c",
        FOLLOWER,
        photo,
        out,
        f"tcp://127.0.0.1:{service.port}",
        data_port,
    ]
    return subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True)


def stop_follower(follower: subprocess.Popen) -> None:
    """Kills it without a warning, as a crash does."""
    follower.kill()
    follower.communicate()


def check_scene(folder: Path) -> list[str]:
    """Opens the folder as the add-on does: every file that scene.json names is there and whole."""
    scene = SceneFolder.open(folder)
    assert hash_file(scene.photo_path) == scene.info.photo.blake2b
    for index, person in enumerate(scene.info.people):
        for kind in person.files:
            assert kind == "fit" or scene.person_file(index, kind).is_file(), (index, kind)
        if person.state == "done":
            scene.read_avatar(index)
    return [person.state for person in scene.info.people]


def check_same(folder: Path, service, job: str) -> int:
    """Every artefact of the job is here, byte for byte -> the job's number of artefacts."""
    with RawClient(service.port, service.data_port) as raw:
        newest = artifacts_of(raw.follow(job, ("done",)))
    assert SCENE_FILE in newest
    for artifact in newest.values():
        assert hash_bytes((folder / artifact.name).read_bytes()) == artifact.blake2b, artifact.name
    here = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert here == {*newest, ".wire/job.json"}
    return len(newest)
