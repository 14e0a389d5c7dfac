# SPDX-License-Identifier: Apache-2.0
"""The client as people use it: crowdgaussian submit | jobs, and reconstruct() in a script."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from _support.client_running import finished, noise_photo, pump_until, server_of
from _support.service_running import HERE
from crowdgaussian_shared.client.blocking import Watch, reconstruct
from crowdgaussian_shared.client.client import Client
from crowdgaussian_shared.client.server import Server
from crowdgaussian_shared.client.ticket import JobRequest
from crowdgaussian_shared.client.updates import JobUpdate
from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError
from crowdgaussian_shared.scene.folder import SceneFolder

DIRECTLY = """
import sys
from pathlib import Path
from _support import service_pipeline
from crowdgaussian.pipeline.config import preset
from crowdgaussian.pipeline.reconstruct import Job
photo, out = map(Path, sys.argv[1:])
service_pipeline.run(Job(photo, out, preset("open"), photo_name=photo.name), lambda step: None)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the command line keeps its client id."""
    return os.environ | {"XDG_DATA_HOME": str(tmp_path_factory.mktemp("home"))}


def command(*arguments):
    return [sys.executable, "-m", "crowdgaussian", *(str(a) for a in arguments)]


def crowdgaussian(home, *arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, env=home)


def address(service):
    return f"tcp://127.0.0.1:{service.port}"


def files_of(folder, *without):
    names = (str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return {name: (folder / name).read_bytes() for name in names if Path(name).name not in without}


def test_submit_gives_what_reconstruct_gives_to_the_byte(service, home, tmp_path):
    photo = noise_photo(tmp_path / "people3.png")
    submitted = crowdgaussian(
        home, "submit", photo, "--server", address(service), "-o", tmp_path / "far"
    )
    assert submitted.returncode == 0, submitted.stderr
    assert submitted.stdout.splitlines()[-1] == str(tmp_path / "far/scene.json")
    assert "Building avatars" in submitted.stdout
    subprocess.run(
        [sys.executable, "-c", DIRECTLY, photo, tmp_path / "near"],
        check=True,
        env=home | {"PYTHONPATH": str(HERE)},
        timeout=60,
    )
    near = files_of(tmp_path / "near", "fit.npz", "timings.json")
    assert files_of(tmp_path / "far", "job.json") == near and len(near) == 15


def test_people_who_are_refined_after_they_arrived_arrive_again(service, tmp_path):
    client = Client(server_of(service), "test", "1" * 36)
    out = tmp_path / "out"
    client.submit(JobRequest(noise_photo(tmp_path / "refined-people2.png", seed=3), out))
    seen, stages = {}, []

    def note(update):
        if (out / "scene.json").is_file():
            for index, person in enumerate(SceneFolder.open(out).info.people):
                if person.state == "done":
                    file = (out / f"people/{index:03d}/avatar.npz").read_bytes()
                    after = SceneFolder.open(out).info.people[index]
                    if after.refinement == person.refinement:  # the file may be newer than the list
                        seen.setdefault(person.refinement, {})[index] = file
        if isinstance(update, JobUpdate):
            stages.append(update.progress.stage)
        return finished(update)

    pump_until(client, note)
    client.close()
    assert "refine" in stages and stages.index("avatars") < stages.index("refine")
    assert set(seen["refined"]) == {0, 1} and seen[""], "coarse first, then refined"
    assert all(seen["refined"][index] != seen[""][index] for index in seen[""])
    folder = SceneFolder.open(out)
    assert all(person.settled for person in folder.info.people)
    assert len(folder.read_avatar(1).gaussians) == 50


def test_what_only_the_server_s_owner_sets_about_refinement(service, home, tmp_path):
    photo = noise_photo(tmp_path / "people1.png", seed=4)
    for setting, words in (
        ("refine.weights=/etc/passwd", "names files or programs"),
        ("refine.distil.steps=1000000", "must be from"),
    ):
        refused = crowdgaussian(
            home,
            "submit",
            photo,
            "--server",
            address(service),
            "-o",
            tmp_path / "o",
            "--set",
            setting,
        )
        assert refused.returncode == 2 and words in refused.stderr, refused.stderr


def test_left_alone_and_fetched_later(service, home, tmp_path):
    submit = (
        "submit",
        noise_photo(tmp_path / "p.png", seed=1),
        "--server",
        address(service),
        "-o",
        tmp_path / "out",
    )
    left = crowdgaussian(home, *submit, "--detach")
    assert left.returncode == 0 and re.search(r"Job \S{36} goes on", left.stderr)
    assert not (tmp_path / "out/scene.json").exists()
    assert crowdgaussian(home, *submit).returncode == 0
    assert (tmp_path / "out/scene.json").is_file()


def test_followed_interrupted_cancelled_and_deleted(service, home, tmp_path):
    server = ("--server", address(service))
    photo = noise_photo(tmp_path / "stuck.png", seed=2)
    follower = subprocess.Popen(
        command("submit", photo, *server, "-o", tmp_path / "out"),
        env=home,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while "Starting" not in follower.stdout.readline():
        assert follower.poll() is None
    follower.send_signal(signal.SIGINT)
    _, told = follower.communicate(timeout=20)
    job = re.search(r"Job (\S{36}) goes on", told)[1]
    assert follower.returncode == 130 and f"--cancel {job}" in told
    listed = crowdgaussian(home, "jobs", *server).stdout.splitlines()[0]
    assert listed.startswith(job) and "running" in listed and listed.endswith("stuck.png")
    assert crowdgaussian(home, "jobs", *server, "--cancel", job).returncode == 0
    deadline = time.monotonic() + 30
    while "cancelled" not in crowdgaussian(home, "jobs", *server).stdout.splitlines()[0]:
        assert time.monotonic() < deadline
    assert crowdgaussian(home, "jobs", *server, "--delete", job).returncode == 0
    assert job not in crowdgaussian(home, "jobs", *server).stdout
    gone = crowdgaussian(home, "jobs", *server, "--delete", job)
    assert gone.returncode == 2 and "no such job" in gone.stderr


@pytest.mark.parametrize(
    "options, words",
    [(("--set", "nonsense=1"), "no setting 'nonsense'"), (("--set", "nonsense"), "needs a value"),
     (("--server", "tcp://gpu.example.org:1"), "needs a pairing line"),
     (("--pairing", "cgpair1:a:AAAA"), "not whole"), (("--preset", "best"), "best"),
     (("--server", "tcp://127.0.0.1:1"), "Nobody listens")],
)  # fmt: skip
def test_mistakes_are_one_sentence(service, home, tmp_path, options, words):
    photo = noise_photo(tmp_path / "p.png")
    done = crowdgaussian(
        home, "submit", photo, "--server", address(service), "-o", tmp_path / "out", *options
    )
    assert done.returncode == 2 and words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_refused_job_leaves_the_folder_free_for_the_next(service, tmp_path):
    photo, out = noise_photo(tmp_path / "p.png", seed=3), tmp_path / "out"
    with pytest.raises(CrowdGaussianError, match="no setting 'nonsense'"):
        reconstruct(photo, out, address(service), settings={"nonsense": "1"})
    assert reconstruct(photo, out, address(service)) == out


def test_a_script_sees_progress(service, tmp_path):
    seen = []
    watch = Watch(on_progress=seen.append)
    photo = noise_photo(tmp_path / "slow-p.png", seed=4)
    reconstruct(photo, tmp_path / "out", address(service), watch=watch)
    fractions = [p.fraction for p in seen if p.stage == "avatars"]
    assert len(set(fractions)) >= 4 and fractions == sorted(fractions)
    assert {p.person for p in seen if p.stage == "avatars"} >= {0, 1}
    assert [p.stage for p in seen][0] == "connect" and seen[-1].stage == "download"


def test_a_script_that_stops_cancels_its_job(service, tmp_path):
    def stop(progress):
        if progress.stage == "avatars":
            raise Cancelled

    photo, out = noise_photo(tmp_path / "slow-people5.png", seed=5), tmp_path / "out"
    with pytest.raises(Cancelled):
        reconstruct(photo, out, address(service), watch=Watch(on_progress=stop))
    with Client(server_of(service), "test") as client:
        client.attach(out)
        assert pump_until(client, finished)[-1].state == "cancelled"


def test_a_job_that_was_never_sent_is_cancelled_here(tmp_path):
    with Client(Server("127.0.0.1", 1), "test") as client:
        job = client.submit(JobRequest(noise_photo(tmp_path / "p.png"), tmp_path / "out"))
        client.cancel(job)
        assert pump_until(client, finished)[-1].state == "cancelled"
