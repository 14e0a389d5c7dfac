# SPDX-License-Identifier: Apache-2.0
"""What a client does when something breaks; servers, clients and the network are real."""

import json
import time

import crowdgaussian_shared.client.data as client_data
import pytest
from _support.client_running import (
    check_same,
    check_scene,
    finished,
    lost,
    noise_photo,
    pump_until,
    run_job,
    server_of,
    start_follower,
    stop_follower,
)
from _support.cutting_proxy import proxy_to
from _support.service_running import serving, start
from crowdgaussian_shared.client.client import Client
from crowdgaussian_shared.client.ticket import JobRequest, read_ticket
from crowdgaussian_shared.client.updates import (
    Deleted,
    JobList,
    JobUpdate,
    SceneUpdate,
    ServerUpdate,
)

BIG = 1500  # pixels of a side: photo.jpg becomes about 3 MiB


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(client_data, "FIRST_PAUSE", 0.1)


def starts_of(service, job):
    """How often a job was begun, as the service's log tells."""
    return service.log.read_text().count(f"job {job}: photo")


def test_a_job_is_mirrored_and_valid_at_every_moment(service, tmp_path):
    with Client(server_of(service), "test") as client:
        job = client.submit(JobRequest(noise_photo(tmp_path / "people3.png"), tmp_path / "out"))
        updates = pump_until(client, finished)
    assert updates[-1].succeeded
    states = {u.state for u in updates if isinstance(u, JobUpdate)}
    assert states >= {"submitting", "queued", "running", "done"}
    assert sum(isinstance(u, SceneUpdate) for u in updates) >= 3
    assert check_scene(tmp_path / "out") == ["done"] * 3
    assert check_same(tmp_path / "out", service, job) == 3 + 3 * 4  # photo, scene.json, the floor


def test_a_killed_client_goes_on_where_it_was(service, tmp_path):
    out = tmp_path / "out"
    photo = noise_photo(tmp_path / "slow-people2.png", seed=1)
    follower = start_follower(photo, out, service)
    job = follower.stdout.readline().strip()
    for line in follower.stdout:
        if line.startswith("done"):
            break
    stop_follower(follower)
    assert check_scene(out)[0] == "done"
    first = out / "people/000/avatar.npz"
    before = first.stat()
    seen = read_ticket(out).last_seq
    with Client(server_of(service), "test", "0" * 36) as client:
        assert client.attach(out) == job
        last = pump_until(client, finished)[-1]
        client.list_jobs()
        jobs = pump_until(client, lambda u: isinstance(u, JobList))[-1].jobs
    assert last.succeeded and seen > 0
    assert [j.job for j in jobs] == [job]
    assert starts_of(service, job) == 1
    after = first.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    check_same(out, service, job)


def test_a_lost_ticket_fetches_only_what_is_missing(service, tmp_path):
    out = tmp_path / "out"
    with Client(server_of(service), "test") as client:
        job = client.submit(JobRequest(noise_photo(tmp_path / "p.png", seed=2), out))
        pump_until(client, finished)
        kept = (out / "people/001/splats.ply").stat().st_ino
        (out / "people/000/avatar.npz").unlink()
        (out / "people/001/mask.png").write_bytes(b"damaged")
        ticket = out / ".wire/job.json"
        ticket.write_text(json.dumps({**json.loads(ticket.read_text()), "last_seq": 0}))
        client.attach(out)
        assert pump_until(client, finished)[-1].succeeded
    assert (out / "people/001/splats.ply").stat().st_ino == kept
    check_same(out, service, job)


@pytest.mark.parametrize("stall", [False, True], ids=["cut", "stalled"])
def test_a_download_goes_on_from_its_offset(service, tmp_path, monkeypatch, stall):
    monkeypatch.setattr(client_data, "SILENCE", 0.4)
    photo = noise_photo(tmp_path / "p.png", BIG, seed=3 + stall)
    with Client(server_of(service), "test") as client:
        assert run_job(client, photo, tmp_path / "whole").succeeded
    size = (tmp_path / "whole/photo.jpg").stat().st_size
    cuts = [size // 2, 1, 1_200_000]
    with proxy_to(service.data_port, cuts=cuts, stall=stall) as proxy:
        out = tmp_path / "out"
        with Client(server_of(service, proxy.port), "test") as client:
            job = client.submit(JobRequest(photo, out))
            assert pump_until(client, finished)[-1].succeeded
        assert proxy.connections == 4
    check_same(out, service, job)


def test_a_killed_client_goes_on_in_the_middle_of_a_file(service, tmp_path):
    photo, out = noise_photo(tmp_path / "p.png", 2400, seed=5), tmp_path / "out"
    with Client(server_of(service), "test") as client:
        assert run_job(client, photo, tmp_path / "whole").succeeded
    size = (tmp_path / "whole/photo.jpg").stat().st_size
    with proxy_to(service.data_port, cuts=[size // 2], stall=True) as proxy:
        follower = start_follower(photo, out, service, proxy.port)
        job = follower.stdout.readline().strip()
        part = wait_for_part(out)
        stop_follower(follower)
        here, fetched = part.stat().st_size, proxy.down
        with Client(server_of(service, proxy.port), "test") as client:
            client.attach(out)
            assert pump_until(client, finished)[-1].succeeded
        others = sum(p.stat().st_size for p in out.rglob("*") if p.name != "photo.jpg")
        assert size // 4 < here < size
        assert proxy.down - fetched < size - here + others + (64 << 10)
    check_same(out, service, job)


def wait_for_part(out):
    """The .part file, once it has stopped growing."""
    deadline, before = time.monotonic() + 20, -1
    while time.monotonic() < deadline:
        parts = [p for p in out.glob(".wire/*.part") if p.stat().st_size > 0]
        if parts and parts[0].stat().st_size == before:
            return parts[0]
        before = parts[0].stat().st_size if parts else -1
        time.sleep(0.3)
    raise TimeoutError("no part of the file arrived")


def test_a_photo_is_sent_on_after_a_cut(service, tmp_path):
    photo = noise_photo(tmp_path / "p.png", BIG, seed=6)
    size = photo.stat().st_size
    with proxy_to(service.data_port, cuts=[size // 2, size // 4]) as proxy:
        with Client(server_of(service, proxy.port), "test") as client:
            assert run_job(client, photo, tmp_path / "out").succeeded
        assert proxy.connections == 3


def test_a_broken_control_connection_comes_back(service, tmp_path):
    with proxy_to(service.port, cuts=[3000, 1500]) as proxy:
        server = server_of(proxy)
        with Client(server, "test") as client:
            job = client.submit(
                JobRequest(noise_photo(tmp_path / "slow-p.png", seed=7), tmp_path / "out")
            )
            updates = pump_until(client, finished)
        assert proxy.connections == 3
    assert updates[-1].succeeded
    assert [u.reason for u in updates if lost(u)] == ["lost", "lost"]
    check_same(tmp_path / "out", service, job)


def test_a_restarted_broker_is_found_again(tmp_path):
    service = start(tmp_path / "data")
    with Client(server_of(service), "test") as client:
        job = client.submit(JobRequest(noise_photo(tmp_path / "slow-p.png"), tmp_path / "out"))
        pump_until(client, lambda u: isinstance(u, SceneUpdate))
        service.kill()
        assert pump_until(client, lost)[-1].reason == "lost"
        with serving(
            tmp_path / "data",
            "--data-port",
            str(service.data_port),
            bind=f"tcp://127.0.0.1:{service.port}",
        ) as again:
            updates = pump_until(client, finished)
            assert any(isinstance(u, ServerUpdate) and u.state == "connected" for u in updates)
            assert updates[-1].succeeded
            check_same(tmp_path / "out", again, job)


def test_a_cancelled_job_keeps_its_finished_people_and_goes_on_later(service, tmp_path):
    out = tmp_path / "out"
    request = JobRequest(noise_photo(tmp_path / "slow-people2.png", seed=8), out)
    with Client(server_of(service), "test") as client:
        job = client.submit(request)
        pump_until(client, lambda u: isinstance(u, SceneUpdate) and check_scene(out)[0] == "done")
        client.cancel(job)
        last = pump_until(client, finished)[-1]
        assert last.state == "cancelled" and not last.succeeded
        assert check_scene(out)[0] == "done"
        first = (out / "people/000/avatar.npz").stat().st_ino
        assert client.submit(request) == job
        assert pump_until(client, finished)[-1].succeeded
    assert (out / "people/000/avatar.npz").stat().st_ino == first
    check_same(out, service, job)


def test_a_job_that_the_server_forgot_is_whole_or_submitted_anew(service, tmp_path):
    out = tmp_path / "out"
    with Client(server_of(service), "test") as client:
        job = client.submit(JobRequest(noise_photo(tmp_path / "p.png", seed=10), out))
        pump_until(client, finished)
        client.delete(job)
        pump_until(client, lambda u: isinstance(u, Deleted))
        client.attach(out)
        assert pump_until(client, finished)[-1].succeeded
        assert starts_of(service, job) == 1
        (out / "people/000/avatar.npz").unlink()
        client.attach(out)
        assert pump_until(client, finished)[-1].succeeded
        assert starts_of(service, job) == 2
    check_same(out, service, job)


def test_a_failed_job_says_why(service, tmp_path):
    with Client(server_of(service), "test") as client:
        last = run_job(client, noise_photo(tmp_path / "poison.png", seed=9), tmp_path / "out")
    assert last.state == "failed" and "ValueError" in last.error


def test_twenty_clients_are_served_or_told_to_wait(tmp_path):
    with serving(tmp_path / "data", "--set", "jobs_total=12") as service:
        clients = [Client(server_of(service), "test") for _ in range(20)]
        for i, client in enumerate(clients):
            name = f"slow-people1-{i}.png" if i == 0 else f"people1-{i}.png"
            client.submit(
                JobRequest(noise_photo(tmp_path / name, seed=20 + i), tmp_path / f"out{i}")
            )
        pump_until(clients[0], lambda u: isinstance(u, SceneUpdate))
        for client in clients[1:]:
            client.start()
        told = {0: pump_until(clients[0], finished)[-1]}
        deadline = time.monotonic() + 30
        while len(told) < 20 and time.monotonic() < deadline:
            for i, client in enumerate(clients):
                for update in client.poll():
                    if isinstance(update, JobUpdate) and (
                        update.finished or update.state == "busy"
                    ):
                        told[i] = update
            time.sleep(0.05)
        for client in clients:
            client.close()
    busy = [update for update in told.values() if update.state == "busy"]
    assert len(told) == 20 and len(busy) == 8
    assert all("waiting" in update.error for update in busy)
    assert all(update.succeeded for update in told.values() if update.state != "busy")
