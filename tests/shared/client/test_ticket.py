# SPDX-License-Identifier: Apache-2.0
"""Tickets, server addresses and the client's lasting id."""

from dataclasses import replace

import pytest
from crowdgaussian_shared.client.server import Pairing, Server, stable_client_id
from crowdgaussian_shared.client.ticket import JobRequest, open_ticket, read_ticket, save_ticket
from crowdgaussian_shared.errors import CrowdGaussianError

HERE = "tcp://127.0.0.1:5555"
LINE = Pairing("studio", b"\1" * 32, b"\2" * 32, b"\3" * 32, "tcp://gpu.example.org:6000").line()


@pytest.fixture
def request_(tmp_path):
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"photo")
    return JobRequest(photo, tmp_path / "out", "open", {"avatar.gaussians": "3"})


def test_the_same_job_keeps_its_ticket(request_):
    ticket = open_ticket(request_, HERE)
    save_ticket(request_.folder, replace(ticket, submitted=True, last_seq=7, state="running"))
    again = open_ticket(request_, "tcp://127.0.0.1:6000")
    assert again == replace(
        ticket, submitted=True, last_seq=7, state="running", server="tcp://127.0.0.1:6000"
    )
    assert read_ticket(request_.folder) == again


def test_other_settings_are_another_job(request_):
    ticket = open_ticket(request_, HERE)
    other = open_ticket(replace(request_, settings={}), HERE)
    assert other.job != ticket.job


def test_a_folder_with_something_else_is_left_alone(request_):
    request_.folder.mkdir()
    (request_.folder / "diary.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(CrowdGaussianError, match="holds something else"):
            open_ticket(replace(request_, overwrite=overwrite), HERE)
    assert [p.name for p in request_.folder.iterdir()] == ["diary.txt"]


def test_another_scene_is_replaced_only_when_told(request_):
    open_ticket(request_, HERE)
    (request_.folder / "scene.json").write_text("{}")
    (request_.folder / "notes.txt").write_text("mine")
    other = replace(request_, settings={})
    with pytest.raises(CrowdGaussianError, match="or overwrite"):
        open_ticket(other, HERE)
    open_ticket(replace(other, overwrite=True), HERE)
    assert sorted(p.name for p in request_.folder.iterdir()) == [".wire", "notes.txt"]


def test_a_photo_in_the_scene_folder_is_refused(request_, tmp_path):
    with pytest.raises(CrowdGaussianError, match="lies in the scene folder"):
        open_ticket(replace(request_, folder=tmp_path), HERE)
    assert request_.photo.is_file()


def test_a_missing_photo_is_named(request_, tmp_path):
    with pytest.raises(CrowdGaussianError, match=r"no\.jpg does not exist"):
        open_ticket(replace(request_, photo=tmp_path / "no.jpg"), HERE)


@pytest.mark.parametrize("damage", ["", "{}", '{"job": 3}', "[" * 9999])
def test_a_damaged_ticket_is_no_ticket(request_, damage):
    open_ticket(request_, HERE)
    (request_.folder / ".wire/job.json").write_text(damage)
    assert read_ticket(request_.folder) is None
    open_ticket(request_, HERE)


@pytest.mark.parametrize(
    "text, endpoint",
    [("tcp://127.0.0.1:5555", HERE), ("127.0.0.1", HERE), ("localhost:7", "tcp://localhost:7"),
     ("tcp://[::1]:5555", "tcp://[::1]:5555"), (" 127.0.0.2:1/ ", "tcp://127.0.0.2:1")],
)  # fmt: skip
def test_addresses_of_this_computer(text, endpoint):
    server = Server.parse(text)
    assert str(server) == endpoint and server.loopback


@pytest.mark.parametrize("text", ["", "tcp://", "http://a:1", "a:b", "tcp://h:0", "tcp://h:70000"])
def test_no_addresses(text):
    with pytest.raises(CrowdGaussianError, match="no server's address"):
        Server.parse(text, LINE.split("@")[0])


@pytest.mark.parametrize("text", ["tcp://192.168.1.5:5555", "gpu.example.org", "0.0.0.0"])
def test_another_computer_needs_a_line(text):
    with pytest.raises(CrowdGaussianError, match="needs a pairing line"):
        Server.parse(text)
    assert Server.parse(text, LINE).pairing.name == "studio"


def test_the_line_s_address_is_used_without_another():
    assert str(Server.parse("", LINE)) == "tcp://gpu.example.org:6000"


def test_the_line_may_lie_in_a_file(tmp_path):
    (tmp_path / "line").write_text(LINE + "\n")
    assert Server.parse("", str(tmp_path / "line")) == Server.parse("", LINE)


def test_the_client_id_stays(tmp_path):
    path = tmp_path / "a/client-id"
    first = stable_client_id(path)
    assert stable_client_id(path) == first and len(first) == 36
    path.write_text("rubbish")
    assert stable_client_id(path) != "rubbish"
