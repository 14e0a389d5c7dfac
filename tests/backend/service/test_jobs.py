# SPDX-License-Identifier: Apache-2.0
"""The service with real processes: jobs from the photo to the last file."""

import threading
import time
import uuid

from _support.service_pipeline import run as run_here
from _support.service_running import Client, artifacts_of, serving
from _support.stand_ins import write_photo
from crowdgaussian.pipeline.config import preset
from crowdgaussian.pipeline.reconstruct import Job
from crowdgaussian_shared.protocol import messages as m
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import hash_bytes


def test_welcome_says_what_the_server_can(client):
    welcome = client.welcome
    assert welcome.device.kind == "cpu" and welcome.device.memory_free > 0
    by_name = {preset.name: preset for preset in welcome.presets}
    assert by_name["open"].available and by_name["open"].commercial
    assert {len(model.blake2b) for model in by_name["open"].models} == {64}
    assert not by_name["paper"].available and "weights fetch" in by_name["paper"].missing


def test_a_job_gives_the_same_files_as_running_it_here(client, photo, tmp_path):
    job, _ = client.submit(photo, "a.png")
    events = client.follow(job)
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert (events[0].state, events[-1].state) == ("queued", "done")
    path = tmp_path / "a.png"
    here = run_here(
        Job(path, tmp_path / "out", preset("open"), photo_name="a.png"), lambda step: None
    )
    expected = {p.relative_to(here.path).as_posix() for p in here.path.rglob("*") if p.is_file()}
    found = artifacts_of(events)
    assert set(found) == {n for n in expected if "fit.npz" not in n and n != "timings.json"}
    for name, artifact in found.items():
        data = client.fetch(job, name, artifact.blake2b)
        assert hash_bytes(data) == artifact.blake2b and len(data) == artifact.size
        assert data == (here.path / name).read_bytes(), name


def test_people_can_be_fetched_while_the_job_runs(client, photo, tmp_path):
    job, _ = client.submit(photo, "slow-people3.png")
    client.ask(m.Attach, job=job)
    events = client.wait(
        job,
        ("running",),
        enough=lambda e: any(a.name == "people/000/avatar.npz" for a in e.artifacts),
    )
    for name, artifact in artifacts_of(events).items():  # a mirror made now is a valid scene
        target = tmp_path / "mirror" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(client.fetch(job, name, artifact.blake2b))
    mirror = SceneFolder.open(tmp_path / "mirror")
    assert mirror.info.people[0].state == "done" and len(mirror.read_avatar(0).gaussians) == 50
    assert mirror.info.people[2].state == "masked"
    client.ask(m.Cancel, job=job)
    client.wait(job)


def test_submitting_twice_is_one_job(client, photo):
    job = str(uuid.uuid4())
    _, first = client.submit(photo, job=job, upload=False)
    _, second = client.submit(photo, job=job, upload=False)
    assert first.job == second.job and first.job.state == "uploading"
    client.submit(photo, job=job)
    done = client.follow(job)
    _, third = client.submit(photo, job=job)
    assert third.job.state == "done" and third.job.last_seq == done[-1].seq
    _, other = client.submit(photo + b"x", job=job)
    assert isinstance(other, m.Error) and other.code == "state"


def test_an_upload_goes_on_where_it_stopped(client, photo):
    job, _ = client.submit(photo, upload=False)
    client.ask(m.Upload, client.data, (photo[:1000],), job=job, offset=0)
    with Client(client.port, client.data_port, client.name) as again:
        _, answer = again.submit(photo, job=job, upload=False)
        assert answer.job.received == 1000
        wrong = again.ask(m.Upload, again.data, (photo[:500],), job=job, offset=5000)
        assert wrong.received == 1000, "a gap is left out, and the answer says where to go on"
        assert again.upload(job, photo, 1000, piece=7000).received == len(photo)
        assert again.follow(job)[-1].state == "done"


def test_the_same_photo_is_not_computed_again(client, photo):
    job, _ = client.submit(photo, "a.png")
    first = artifacts_of(client.follow(job))
    started = time.perf_counter()
    again, answer = client.submit(photo, "another name.png")
    assert answer.job.state == "done" and time.perf_counter() - started < 1
    events = client.follow(again)
    second = artifacts_of(events)
    assert events[-1].artifacts[-1].name == "scene.json"
    assert {n for n in first if first[n] != second[n]} == {"scene.json"}
    assert b'"another name.png"' in client.fetch(again, "scene.json")
    assert b'"a.png"' in client.fetch(job, "scene.json")
    _, other = client.submit(photo, settings={"avatar.gaussians": "5000"}, upload=False)
    assert other.job.state == "uploading", "other settings are another result"
    client.ask(m.Cancel, job=other.job.job)


def test_events_are_replayed_without_gaps(client, photo):
    job, _ = client.submit(photo, "chatty.png")
    client.follow(job)
    with Client(client.port, client.data_port) as late:
        events = late.follow(job)
        assert len(events) >= 1000
        assert [e.seq for e in events] == list(range(1, len(events) + 1))
        late.events.clear()
        last = late.follow(job, last_seq=events[-1].seq - 10)
        assert [e.seq for e in last] == [e.seq for e in events[-10:]]
        refused = late.ask(m.Attach, job=job, last_seq=10**6)
        assert refused.code == "state"


def test_list_and_delete(client, photo, service):
    job, _ = client.submit(photo)
    client.follow(job)
    assert [j.job for j in client.ask(m.List).jobs] == [job]
    assert isinstance(client.ask(m.Delete, job=job), m.Done)
    assert client.status(job).code == "unknown-job"
    assert client.ask(m.List).jobs == ()
    left = [p for p in (service.data / "results").rglob("*") if photo in _bytes(p)]
    assert left == [] and not (service.data / "uploads" / job).exists()


def _bytes(path):
    return path.read_bytes() if path.is_file() else b""


def test_names_and_photos_are_not_logged(client, photo, service):
    job, _ = client.submit(photo, "secret-name poison.png")
    assert client.follow(job)[-1].state == "failed"
    log = service.log.read_text()
    assert job in log and "secret-name" not in log


def test_a_failed_job_says_why_and_the_next_one_runs(client, photo):
    job, _ = client.submit(photo, "poison.png")
    last = client.follow(job)[-1]
    assert last.state == "failed" and "ValueError" in last.error
    _, answer = client.submit(photo, "fine.png")
    assert isinstance(answer, m.Uploaded)
    assert client.follow(answer.job)[-1].state == "done"


def test_twenty_clients_are_served_or_told_busy(tmp_path):
    photos = [write_photo(tmp_path / f"{i}.png", seed=i).read_bytes() for i in range(20)]
    outcomes = [""] * 20
    limit = ("--set", "jobs_total=12")

    def one(index, port, data_port):
        with Client(port, data_port) as client:
            job, answer = client.submit(photos[index])
            if isinstance(answer, m.Busy):
                assert answer.retry_after > 0 and "waiting" in answer.reason
                outcomes[index] = "busy"
                return
            outcomes[index] = client.follow(job)[-1].state

    with serving(tmp_path / "data", *limit) as service:
        threads = [
            threading.Thread(target=one, args=(i, service.port, service.data_port))
            for i in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert set(outcomes) <= {"done", "busy"} and outcomes.count("done") >= 12, outcomes


def test_one_client_has_a_limit_of_its_own(tmp_path, photo):
    with serving(tmp_path / "data", "--set", "jobs_per_client=2") as service:
        with (
            Client(service.port, service.data_port) as first,
            Client(service.port, service.data_port) as second,
        ):
            answers = [first.submit(photo + bytes([i]), upload=False)[1] for i in range(3)]
            assert [type(a) for a in answers] == [m.JobInfo, m.JobInfo, m.Busy]
            assert isinstance(second.submit(photo, upload=False)[1], m.JobInfo)


def test_the_queue_tells_the_position(client, photo):
    jobs = [client.submit(photo + bytes([i]), "slow.png")[0] for i in range(3)]
    client.follow(jobs[0], until=("running",))
    assert [client.status(job).job.position for job in jobs] == [0, 1, 2]
    for job in reversed(jobs):
        client.ask(m.Cancel, job=job)


def test_two_workers_share_the_queue_but_not_a_photo(tmp_path, photo):
    with (
        serving(tmp_path / "data", "--workers", "2") as service,
        Client(service.port, service.data_port) as client,
    ):
        twins = [client.submit(photo, name)[0] for name in ("slow a.png", "slow b.png")]
        other, _ = client.submit(photo + b"2", "slow c.png")
        client.ask(m.Attach, job=twins[0])
        client.follow(other, until=("running",))
        states = [client.status(job).job.state for job in (*twins, other)]
        assert states == ["running", "queued", "running"]
        second = client.follow(twins[1])
        assert [e.state for e in second] == ["queued", "done"], "the first one's result"
        assert client.follow(other)[-1].state == "done"
        assert len(set(service.workers())) == 2


def test_how_a_download_stands_is_told_to_anybody_who_may_send_jobs(client):
    answer = client.ask(m.Download, preset="open-large")
    assert (answer.state, answer.received, answer.size) == ("idle", 0, 1_414_000_000)
    assert not answer.preset.available and answer.preset.download == 1_414_000_000
    assert "weights fetch --preset open-large" in answer.preset.missing
    complete = client.ask(m.Download, preset="open", start=True)
    assert complete.preset.available and (complete.state, complete.size) == ("idle", 0)
    assert client.ask(m.Download, preset="../etc").code == "message"
