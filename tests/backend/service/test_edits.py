# SPDX-License-Identifier: Apache-2.0
"""Corrections through the service: from a result that is there, from nothing, and bad ones."""

import json
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from _support.service_running import artifacts_of
from _support.stand_ins import write_photo
from crowdgaussian.service import submit
from crowdgaussian.service.settings import ServiceSettings
from crowdgaussian.service.store import JobRow, Store
from crowdgaussian_shared.client import job as client_job
from crowdgaussian_shared.client.blocking import reconstruct
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol import messages as m
from crowdgaussian_shared.scene.edit import PoseEdit, SceneEdit, SceneEdits
from crowdgaussian_shared.scene.folder import SceneFolder


def edit_of(*steps):
    return SceneEdits(steps).to_json()


def pose_edit(angle):
    return PoseEdit(np.full((55, 3), angle), np.array([0.0, 1, -4]))


ONE = SceneEdit({1: pose_edit(0.1)})


def hashes(events):
    return {name: a.blake2b for name, a in artifacts_of(events).items()}


def stages_of(events):
    return {event.progress.stage for event in events}


def test_corrections_build_on_the_result_that_is_here(client, photo):
    base = client.follow(client.submit(photo, "people3.png")[0])
    first = client.follow(client.submit(photo, "people3.png", edit=edit_of(ONE))[0])
    assert first[-1].state == "done" and "people" not in stages_of(first)
    then = SceneEdit({2: pose_edit(0.2)}, excluded=(0,))
    second = client.follow(client.submit(photo, "people3.png", edit=edit_of(ONE, then))[0])
    before, one, two = hashes(base), hashes(first), hashes(second)
    changed = {name for name in before if before[name] != one.get(name)}
    assert changed == {"scene.json", "people/001/avatar.npz", "people/001/splats.ply"}
    assert one["people/001/avatar.npz"] == two["people/001/avatar.npz"]
    assert one["people/002/avatar.npz"] != two["people/002/avatar.npz"]
    again = client.submit(photo, "people3.png", edit=edit_of(ONE, then))[1]
    assert again.job.state == "done", "known corrections come from the cache"


def test_the_client_mirrors_corrections_made_from_nothing(service, tmp_path):
    photo = write_photo(tmp_path / "people2.png", seed=5)
    address = f"tcp://127.0.0.1:{service.port}"
    out = reconstruct(photo, tmp_path / "out", address, edit=edit_of(ONE))
    folder = SceneFolder.open(out)
    np.testing.assert_allclose(folder.read_avatar(1).pose, 0.1, atol=1e-6)
    assert folder.info.settings["edit"] == edit_of(ONE)


def test_keys_of_many_corrections_are_made_once_and_each_from_the_one_before(tmp_path, monkeypatch):
    """900 of them used to cost the broker 900 keys of everything, in each turn of its loop."""
    made = []
    whole = submit.result_key
    monkeypatch.setattr(submit, "result_key", lambda *given: made.append(1) or whole(*given))
    settings = ServiceSettings(tmp_path)
    steps = [SceneEdit(excluded=(index % 3,)) for index in range(900)]

    def row(count):
        edit = edit_of(*steps[:count]) if count else ""
        return JobRow("j", "o", "queued", "", "a", 5, "5e" * 32, "open", {}, 1.0, 1.0, edit=edit)

    many = submit.keys_of(row(900), settings)
    assert len(set(many)) == len(many) == 901
    assert submit.keys_of(row(900), settings) == many and len(made) == 1
    assert submit.keys_of(row(20), settings) == many[-21:]
    assert submit.keys_of(row(0), settings) == many[-1:]
    other = replace(row(20), settings={"avatar.seed": "2"})
    assert not set(submit.keys_of(other, settings)) & {*many}


def test_bad_corrections_are_refused_in_a_sentence(client, photo):
    pose = {"pose": [0] * 165, "transl": [0, 0, 0]}
    for edit, words in (
        ("{", "SUBMIT: edit is damaged"),
        (json.dumps({"edits": [{"corrected": {"0": pose, "x": pose}}]}), "number"),
        ("x" * 50_000, "at most 48000 characters"),
    ):
        _, answer = client.submit(photo, "a.png", edit=edit)
        assert isinstance(answer, m.Error) and words in answer.message, answer
    job, _ = client.submit(photo, "people3.png", edit=edit_of(SceneEdit({9: pose_edit(0)})))
    events = client.follow(job)
    assert events[-1].state == "failed"
    assert events[-1].error == "There is no person 9 to correct; the scene has 3 people."
    _, other = client.submit(photo, "people3.png", job=job, edit=edit_of(ONE))
    assert isinstance(other, m.Error) and other.code == "state"


def test_an_older_server_is_not_asked(service, tmp_path, monkeypatch):
    monkeypatch.setattr(client_job, "EDITS_SINCE", 99)
    photo = write_photo(tmp_path / "a.png")
    with pytest.raises(CrowdGaussianError, match="too old to correct people; update"):
        reconstruct(photo, tmp_path / "out", f"tcp://127.0.0.1:{service.port}", edit=edit_of(ONE))


def test_a_store_from_before_there_were_corrections_opens(tmp_path):
    path = tmp_path / "jobs.sqlite"
    Store(path).close()
    database = sqlite3.connect(path)
    database.execute("ALTER TABLE jobs DROP COLUMN edit")
    database.execute("PRAGMA user_version = 1")
    database.commit()
    database.close()
    store = Store(path)
    assert "edit" in {row[1] for row in store._db.execute("PRAGMA table_info(jobs)")}
    store.close()
    Store(path).close()
