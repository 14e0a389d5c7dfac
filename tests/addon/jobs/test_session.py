# SPDX-License-Identifier: Apache-2.0
"""The add-on's parts without Blender: job table, server process, session."""

import ast
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from crowdgaussian_addon.jobs.local_server import LocalServer, find_backend_python
from crowdgaussian_addon.jobs.session import Session, Target
from crowdgaussian_addon.jobs.table import QUALITIES, REFINEMENTS, JobRow, JobTable, settings_for
from crowdgaussian_shared.client.ticket import JobRequest
from crowdgaussian_shared.client.updates import (
    DownloadUpdate,
    JobUpdate,
    RequestFailed,
    SceneUpdate,
    ServerUpdate,
)
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol import messages as m
from crowdgaussian_shared.protocol.messages import Progress
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import PersonEntry, PhotoInfo, SceneInfo

READY = "#!/bin/sh\necho ready on tcp://127.0.0.1:4711, data port 4712\n"


class FakeClient:
    """Notes what the session asks for, and tells what a test wants."""

    def __init__(self):
        self.updates, self.asked = [], []

    def poll(self):
        found, self.updates = self.updates, []
        return found

    def __getattr__(self, name):
        return lambda *arguments, **_: self.asked.append((name, *arguments))


@pytest.fixture
def session(tmp_path):
    """A session that is connected to a fake client, with one running job."""
    made = Session(tmp_path, "test")
    made._client = FakeClient()
    made.server.state, made.server.label = "connected", "tcp://a:1"
    made.table.add(JobRow("id", "/p/party.jpg", str(tmp_path / "s"), "tcp://a:1", state="running"))
    yield made
    made.close()


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def poll_until(server, ready):
    deadline = time.monotonic() + 10
    while not ready():
        assert time.monotonic() < deadline
        server.poll()
        time.sleep(0.02)


def test_the_table_survives_and_unfinished_jobs_are_paused(tmp_path):
    table = JobTable(tmp_path / "jobs.json")
    table.add(JobRow("a", "/p/a.jpg", "/s/a", "x", state="done", finished=True, people_done=3))
    table.add(
        JobRow("b", "/p/b.jpg", "/s/b", "x", "open", {"k": "v"}, imported=(0, 2), stage="masks")
    )
    table.save()
    again = JobTable(tmp_path / "jobs.json")
    again.load()
    assert [row.job for row in again.rows] == ["b", "a"]
    assert again.rows[0].state == "paused" and "Continue" in again.rows[0].trouble
    assert again.rows[0].imported == (0, 2) and again.rows[0].stage == ""
    assert again.rows[1].state == "done" and again.rows[1].people_done == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"jobs": 3}', '{"jobs": [{"job": 7}]}'])
def test_a_damaged_table_is_an_empty_one(tmp_path, text):
    (tmp_path / "jobs.json").write_text(text)
    table = JobTable(tmp_path / "jobs.json")
    table.load()
    assert table.rows == []


def test_an_older_row_of_the_same_job_is_replaced(tmp_path):
    table = JobTable(tmp_path / "jobs.json")
    for photo in ("/a.jpg", "/b.jpg"):
        table.add(JobRow("id", photo, "/s", "x"))
    assert [row.photo for row in table.rows] == ["/b.jpg"]


def test_progress_grows_over_the_stages():
    steps = [("people", 0.0), ("people", 0.9), ("masks", 0.5), ("avatars", 0.1), ("avatars", 1.0)]
    values = [
        JobRow("", "", "", "", state="running", stage=stage, fraction=fraction).progress
        for stage, fraction in steps
    ]
    assert values == sorted(values) and values[0] == 0.0 and values[-1] == 1.0


def test_progress_of_a_job_that_refines_does_not_go_back(tmp_path):
    steps = [
        ("people", 1.0),
        ("masks", 1.0),
        ("avatars", 0.5),
        ("avatars", 1.0),
        ("refine", 0.0),
        ("refine", 1.0),
        ("masks", 0.0),
        ("refine", 1.0),
    ]  # a correction after its base
    session = Session(tmp_path, "test")
    session.table.add(JobRow("a", "", str(tmp_path), "x", refines=True))
    values = []
    for stage, fraction in steps:
        session._take(JobUpdate("a", tmp_path, "running", Progress(stage, fraction)), set())
        values.append(session.rows[0].progress)
    assert values == sorted(values) and values[-1] == 1.0 and values[3] < 1.0
    session._take(JobUpdate("a", tmp_path, "queued"), set())
    assert session.rows[0].progress == 0.0


def test_rows_say_who_stays_unrefined_and_why(tmp_path):
    people = [
        PersonEntry(state="done", refinement=what, refinement_note=note)
        for what, note in (
            ("refined", ""),
            ("kept", "Worse."),
            ("failed", "No memory."),
            ("failed", "No memory."),
        )
    ]
    info = SceneInfo(
        PhotoInfo("", 4, 4), people=tuple(people), settings={"stages.refiner": "small"}
    )
    folder = SceneFolder.create(tmp_path / "s", b"x", ".jpg", info)
    row = JobRow("a", "", str(folder.path), "x")
    row.count_people()
    assert row.refines and row.people_refined == 1 and row.people_done == 4
    assert row.unrefined == (
        "Not refined: people 2, 3. No memory. 1 matches the photo better unrefined."
    )


def test_refinements_are_stages_of_the_backend():
    stages = (Path(__file__).parents[3] / "backend/crowdgaussian/pipeline/stages.py").read_text()
    assert settings_for("NORMAL", refinement="OFF") == {"stages.refiner": "none"}
    for name, *_ in REFINEMENTS[2:]:
        stage = settings_for("NORMAL", refinement=name)["stages.refiner"]
        assert re.search(rf'StageSpec\(\s*"{stage}",\s*"refiner",', stages)


def test_qualities_are_settings_of_the_backend():
    names = {name for quality in QUALITIES for name in quality.settings}
    tree = ast.parse(
        (Path(__file__).parents[3] / "backend/crowdgaussian/avatar/types.py").read_text()
    )
    known = {
        f"avatar.{node.target.id}" for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)
    }
    assert names <= known
    assert settings_for("NORMAL") == {}
    assert settings_for("DRAFT", 4)["people.max_people"] == "4"


@pytest.mark.parametrize("place", ["bin/python", ".venv/bin/python", ".venv/backend/bin/python"])
def test_backend_is_found_in_a_project_or_an_environment(tmp_path, place):
    python = tmp_path / place
    python.parent.mkdir(parents=True)
    python.touch()
    assert find_backend_python(str(tmp_path)) == python
    assert find_backend_python(str(python)) == python


@pytest.mark.parametrize("path, words", [("", "No backend is chosen"), ("/nowhere", "no Python")])
def test_a_missing_backend_is_told_with_what_to_do(path, words):
    with pytest.raises(CrowdGaussianError, match=words) as problem:
        find_backend_python(path)
    assert "make setup" in str(problem.value)


def test_server_is_ready_and_stops(tmp_path):
    server = LocalServer(tmp_path / "server")
    server.start(script(tmp_path / "python", READY + "cat >/dev/null\n"))
    poll_until(server, lambda: server.address)
    assert server.address == "tcp://127.0.0.1:4711" and server.running
    process = server.process_id
    server.stop()
    assert not server.running and not Path(f"/proc/{process}").exists()


def test_a_killed_server_is_told(tmp_path):
    server = LocalServer(tmp_path / "server")
    server.start(script(tmp_path / "python", READY + "exec sleep 60\n"))
    poll_until(server, lambda: server.address)
    os.kill(server.process_id, signal.SIGKILL)
    poll_until(server, lambda: not server.running)
    assert "signal 9" in server.failure and "start it again" in server.failure


@pytest.mark.parametrize(
    "said, words",
    [
        (
            "crowdgaussian: Another server runs on it; stop it.",
            "Another server runs on it; stop it.",
        ),
        (
            "/usr/bin/python: No module named crowdgaussian",
            "There is no backend in this environment",
        ),
        ("Segmentation fault", "exit code 3 after 'Segmentation fault'"),
    ],
)
def test_why_a_server_did_not_start(tmp_path, said, words):
    server = LocalServer(tmp_path / "server")
    server.start(script(tmp_path / "python", f"#!/bin/sh\necho '{said}' >&2\nexit 3\n"))
    poll_until(server, lambda: not server.running)
    assert words in server.failure


def test_a_backend_that_cannot_start_stays_readable_in_the_row(tmp_path, scene_folder):
    session = Session(tmp_path / "cache", "test")
    request = JobRequest(scene_folder.photo_path, tmp_path / "new")
    row = session.submit(Target(backend="/nowhere"), request)
    assert row.state == "paused" and "make setup" in row.trouble
    assert session.server.state == "stopped" and "make setup" in session.server.sentence
    assert session.unfinished(request) is row
    session.close()


def test_updates_reach_the_row(session):
    row = session.rows[0]
    session._client.updates = [
        JobUpdate(
            "id", Path(row.folder), "running", Progress("avatars", 0.5, 2, 6), files_missing=4
        )
    ]
    assert session.poll() == set()
    assert (row.stage, row.fraction, row.person, row.people_found) == ("avatars", 0.5, 2, 6)
    session._client.updates = [SceneUpdate("id", Path(row.folder)), SceneUpdate("other", Path("x"))]
    assert session.poll() == {"id"}
    saved = json.loads((session.cache / "jobs.json").read_text())["jobs"]
    assert [job["job"] for job in saved] == ["id"]


def test_a_lost_server_is_told_in_the_rows_until_it_is_back(session):
    session._client.updates = [ServerUpdate("lost", "refused", "Nobody listens; start it.", 2.0)]
    session.poll()
    assert session.rows[0].trouble == "Nobody listens; start it."
    session._client.updates = [ServerUpdate("connecting")]
    session.poll()
    assert session.server.state == "lost", "the reason went away before it could be read"
    session._client.updates = [ServerUpdate("connected")]
    session.poll()
    assert session.rows[0].trouble == ""


def test_a_job_given_up_by_the_client_has_failed(session):
    session._client.updates = [
        JobUpdate("id", Path("x"), "running", error="The disk is full.", finished=True)
    ]
    session.poll()
    assert session.rows[0].state == "failed" and session.rows[0].error == "The disk is full."


def test_cancel_is_asked_for_and_a_refusal_is_told(session):
    row = session.rows[0]
    session.cancel(row)
    assert session._client.asked == [("cancel", "id")] and row.headline == "Stopping"
    session._client.updates = [RequestFailed("CANCEL", "id", "state", "It has ended already.")]
    session.poll()
    assert not row.cancelling and row.note == "It has ended already."


def test_removing_a_row_lets_the_job_go_on(session):
    session.remove(session.rows[0])
    assert session._client.asked == [("detach", "id")] and session.rows == []


def test_closing_pauses_what_is_not_finished(session):
    session.close()
    assert session.rows[0].state == "paused" and session.server.state == "stopped"


def test_a_cache_that_cannot_be_written_is_told(session, monkeypatch):
    def refuse():
        raise CrowdGaussianError("The cache cannot be written; choose another folder.")

    monkeypatch.setattr(session.table, "save", refuse)
    session.touch()
    session.poll()
    assert "choose another folder" in session.server.sentence


def test_a_download_is_followed_and_its_preset_becomes_available(session):
    lacking = m.Preset("open-large", False, False, "", "It lacks networks.", (), 1_414_000_000)
    complete = m.Preset("open", True, True, "")
    device = m.Device("cpu", "c", 1, 1)
    session.server.welcome = m.Welcome(1, "s", 1, device, m.Limits(), (complete, lacking))
    session.fetch_models("open-large")
    assert session._client.asked == [("download", "open-large")]
    tell(session, m.DownloadInfo(1, lacking, "running", 700_000_000, 1_414_000_000))
    assert session.server.fetching == ["open-large"] and session.busy
    session.poll()
    assert session._client.asked[-1] == ("download", "open-large"), "nobody asks how it goes"
    asked = len(session._client.asked)
    session.poll()
    assert len(session._client.asked) == asked, "it asks without a pause"
    there = m.Preset("open-large", True, True, "Free to use.")
    tell(session, m.DownloadInfo(2, there, "done", 1_414_000_000, 1_414_000_000))
    assert session.server.fetching == []
    assert session.server.welcome.presets == (complete, there)
    session._client.updates.append(RequestFailed("DOWNLOAD", "", "message", "No such preset."))
    session.poll()
    assert session.server.sentence == "No such preset."


def tell(session, info):
    session._client.updates.append(DownloadUpdate(info))
    session.poll()
