# SPDX-License-Identifier: Apache-2.0
"""Who may connect: keys made by the command line, against a live service and a live socket."""

import os
import re
import socket
import stat
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest
import zmq
from _support.service_running import Client, serving, start, use_pairing
from _support.stand_ins import write_photo
from crowdgaussian.cli import main as cli
from crowdgaussian.service.results import Folders
from crowdgaussian.service.settings import KeyFolder
from crowdgaussian_shared.client.server import parse_pairing
from crowdgaussian_shared.protocol import messages as m
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

ANYWHERE = "tcp://0.0.0.0:0"


def keys(data, *arguments):
    return cli.main(["keys", *arguments, "--data", str(data)])


def new_key(capsys, data, name):
    assert keys(data, "new", name) == 0
    return parse_pairing(capsys.readouterr().out)


def test_no_keys_no_network(tmp_path):
    with pytest.raises(RuntimeError, match="run `crowdgaussian keys new NAME` first"):
        start(tmp_path / "data", bind=ANYWHERE)


@pytest.mark.parametrize("address", ["127.0.0.1:5555", "tcp://host", "tcp://a:99999", "ipc:///x"])
def test_an_address_that_is_none(address, capsys):
    assert cli.main(["serve", "--bind", address]) == 2
    assert "is no address" in capsys.readouterr().err


def test_keys_on_the_command_line(tmp_path, capsys):
    data = tmp_path / "data"
    first, second = (new_key(capsys, data, name) for name in ("studio", "laptop"))
    assert first.server_public == second.server_public
    assert first.client_secret != second.client_secret
    keys(data, "list")
    listed = capsys.readouterr().out
    assert re.findall(r"^\w+", listed, re.M) == ["studio", "laptop"]
    assert keys(data, "new", "studio") == 2 and "already" in capsys.readouterr().err
    assert keys(data, "new", "../x") == 2 and "no name" in capsys.readouterr().err
    assert keys(data, "revoke", "nobody") == 2 and "no key named" in capsys.readouterr().err
    assert keys(data, "new", "far", "--address", "tcp://gpu:5555") == 0
    assert parse_pairing(capsys.readouterr().out).address == "tcp://gpu:5555"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes; run this elsewhere")
def test_secrets_are_for_their_owner_only(tmp_path, capsys):
    data = tmp_path / "data"
    pairing = new_key(capsys, data, "studio")
    for path in (data, data / "keys"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (data / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert pairing.client_secret not in path.read_bytes(), "the client's secret is not kept"


@pytest.fixture(scope="module")
def pairings(tmp_path_factory):
    data = tmp_path_factory.mktemp("service") / "data"
    Folders(data).make()
    folder = KeyFolder(data / "keys")
    return data, {name: folder.new(name) for name in ("studio", "laptop", "lost")}


@pytest.fixture(scope="module")
def service(pairings):
    with serving(pairings[0], bind=ANYWHERE) as running:
        yield running


def connect(service, pairing):
    return Client(service.port, service.data_port, pairing=pairing)


def test_a_paired_client_works_and_sees_its_own_jobs_only(service, pairings, tmp_path):
    photo = write_photo(tmp_path / "a.png").read_bytes()
    with (
        connect(service, pairings[1]["studio"]) as studio,
        connect(service, pairings[1]["laptop"]) as laptop,
    ):
        job, _ = studio.submit(photo)
        artifact = studio.follow(job)[-2].artifacts[-1]
        assert len(studio.fetch(job, artifact.name)) == artifact.size
        assert laptop.status(job).code == "unknown-job"
        assert laptop.fetch(job, artifact.name).code == "unknown-job"
        assert laptop.ask(m.Delete, job=job).code == "unknown-job"
        assert laptop.ask(m.List).jobs == ()
        with connect(service, pairings[1]["studio"]) as again:
            assert [j.job for j in again.ask(m.List).jobs] == [job]


def test_a_hash_alone_gets_nobody_elses_result(service, pairings, tmp_path):
    photo = write_photo(tmp_path / "a.png", seed=7).read_bytes()
    with (
        connect(service, pairings[1]["studio"]) as studio,
        connect(service, pairings[1]["laptop"]) as laptop,
    ):
        studio.follow(studio.submit(photo, "private.png")[0])
        job, answer = laptop.submit(photo, "guessed.png", upload=False)
        assert answer.job.state == "uploading"
        assert laptop.fetch(job, "photo.jpg").code == "unknown-artifact"
        assert laptop.upload(job, photo[:-1] + b"?").code == "photo"
        assert laptop.status(job).job.state == "uploading"
        laptop.upload(job, photo)
        events = laptop.follow(job)
        assert {e.progress.stage for e in events} == {"avatars"}, "nothing is computed twice"
        assert b"guessed.png" in laptop.fetch(job, "scene.json")
        _, answer = laptop.submit(photo, "again.png", upload=False)
        assert answer.job.state == "done", "who has sent the photo need not send it again"


def handshake(service, pairing):
    """What the socket's monitor says about a connection."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    try:
        monitor = dealer.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_DISCONNECTED
        )
        if pairing is not None:
            use_pairing(dealer, pairing)
        dealer.connect(f"tcp://127.0.0.1:{service.port}")
        assert monitor.poll(15_000), "no handshake"
        return recv_monitor_message(monitor)["event"].name
    finally:
        context.destroy(linger=0)


def stranger(pairings):
    """Somebody who knows the server's key and is on no list."""
    public, secret = zmq.curve_keypair()
    return replace(
        pairings[1]["studio"], client_public=z85.decode(public), client_secret=z85.decode(secret)
    )


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows; run this elsewhere")
def test_a_list_that_cannot_be_read_lets_nobody_in(service, pairings):
    """The thread that judges keys used to die of it, and then everybody got in."""
    clients = service.data / "keys/clients.json"
    clients.rename(aside := clients.with_suffix(".aside"))
    clients.symlink_to(clients.name)  # too many levels of symbolic links
    try:
        assert handshake(service, pairings[1]["studio"]) != "HANDSHAKE_SUCCEEDED"
    finally:
        clients.unlink()
        aside.rename(clients)
    assert handshake(service, stranger(pairings)) == "HANDSHAKE_FAILED_AUTH"
    with connect(service, pairings[1]["studio"]) as studio:
        assert isinstance(studio.ask(m.Ping), m.Pong)


def test_a_key_that_is_not_on_the_list_is_refused_in_the_handshake(service, pairings):
    assert handshake(service, pairings[1]["studio"]) == "HANDSHAKE_SUCCEEDED"
    assert handshake(service, stranger(pairings)) == "HANDSHAKE_FAILED_AUTH"


def test_a_wrong_server_key_is_refused(service, pairings):
    wrong = replace(pairings[1]["studio"], server_public=pairings[1]["laptop"].client_public)
    assert handshake(service, wrong) != "HANDSHAKE_SUCCEEDED"


def test_no_key_at_all_is_refused(service):
    assert handshake(service, None) != "HANDSHAKE_SUCCEEDED"


def test_a_revoked_key_is_shut_out_at_once(service, pairings, tmp_path, capsys):
    data, by_name = pairings
    with connect(service, by_name["lost"]) as client:
        assert isinstance(client.ask(m.Ping), m.Pong)
        job, _ = client.submit(write_photo(tmp_path / "a.png", seed=5).read_bytes(), "slow.png")
        client.follow(job, until=("running",))
        assert keys(data, "revoke", "lost") == 0
        time.sleep(0.3)
        while client.control.poll(0):
            client.receive()  # what was on its way
        time.sleep(1.0)
        assert not client.control.poll(0), "no more events"
        answer = client.ask(m.Ping)
        assert answer.code == "denied" and "revoked" in answer.message
        answer = client.ask(m.Fetch, client.data, job=job, artifact="photo.jpg")
        assert answer.code == "denied"
        assert client.ask(m.Hello, client="test", client_id="x").code == "denied"
    assert handshake(service, by_name["lost"]) == "HANDSHAKE_FAILED_AUTH"
    with connect(service, by_name["studio"]) as other:
        assert isinstance(other.ask(m.Ping), m.Pong)


class Wiretap(threading.Thread):
    """A TCP proxy that writes down what it hears."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heard = {"client": bytearray(), "server": bytearray()}
        self._open = [self._listener]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it
            one.close()

    def run(self):
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._to))
        self._open += [client, server]
        for args in ((client, server, "client"), (server, client, "server")):
            threading.Thread(target=self._pass_on, args=args, daemon=True).start()

    def _pass_on(self, source, target, name):
        with suppress(OSError):
            while data := source.recv(65536):
                self.heard[name] += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_who_listens_learns_nothing_and_cannot_say_it_again(service, pairings, tmp_path):
    photo = write_photo(tmp_path / "a.png", seed=9).read_bytes() + b"a very secret picture"
    with (
        Wiretap(service.port) as control,
        Wiretap(service.data_port) as data,
        Client(control.port, data.port, pairing=pairings[1]["laptop"]) as client,
    ):
        job, _ = client.submit(photo, "secret-name.png")
        client.follow(job)
        scene = client.fetch(job, "scene.json")
        client.ask(m.Delete, job=job)
    heard = b"".join(bytes(part) for tap in (control, data) for part in tap.heard.values())
    assert len(heard) > len(photo) + len(scene)
    for secret in (b"secret", job.encode(), b"SUBMIT", b"reprojection_px", photo[100:132]):
        assert secret not in heard
    hellos = service.log.read_text().count("hello from key:laptop")
    with socket.create_connection(("127.0.0.1", service.port)) as replay:
        replay.sendall(bytes(control.heard["client"]))
        replay.settimeout(0.5)
        with suppress(OSError):
            while replay.recv(65536):
                pass
    with connect(service, pairings[1]["studio"]) as other:
        assert isinstance(other.ask(m.Ping), m.Pong)
    assert service.log.read_text().count("hello from key:laptop") == hellos
