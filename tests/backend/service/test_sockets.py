# SPDX-License-Identifier: Apache-2.0
"""Connections of the service's sockets: long messages, and who makes room where there is none."""

import time

import pytest
import zmq
from _support.service_running import use_pairing
from crowdgaussian.service import sockets
from crowdgaussian.service.settings import KeyFolder, parse_address
from zmq.utils.monitor import recv_monitor_message


@pytest.fixture
def pair():
    """A ROUTER, its inbox with room for three, and a DEALER."""
    context = zmq.Context()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    inbox = sockets.Inbox(router, secure=False, room=3)
    dealer.connect(f"tcp://127.0.0.1:{port}")
    yield router, inbox, dealer
    inbox.connections.close()
    context.destroy(linger=0)


def test_long_messages_are_thrown_away_in_pieces(pair, monkeypatch):
    monkeypatch.setattr(sockets, "DRAINED", 50)
    router, inbox, dealer = pair
    dealer.send_multipart([b"a"] * 500)
    dealer.send_multipart([b"b", b"c"])
    got = []
    while sum(envelope is not None for envelope in got) < 2 and len(got) < 200:
        assert router.poll(5000), "both messages are on their way"
        got.append(inbox.next())
    cut = next(k for k, envelope in enumerate(got) if envelope is not None)
    assert cut >= 9, "nothing is given out before all of it is gone"
    assert got[cut].frames == [b"a"] * sockets.FRAMES
    rest = [envelope.frames for envelope in got[cut + 1 :] if envelope is not None]
    assert rest == [[b"b", b"c"]]


@pytest.fixture
def hanging(pair):
    """Makes DEALERs that connect once and say so many things -> the monitor of each."""
    made = []

    def make(times=1):
        dealer = pair[0].context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.RECONNECT_IVL, -1)
        monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        made.extend((dealer, monitor))
        dealer.connect(pair[0].getsockopt_string(zmq.LAST_ENDPOINT))
        assert recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        for _ in range(times):
            dealer.send(b"word")
        return monitor

    return make


def settled(inbox, router, messages, connections):
    """Reads so many messages and waits for so many connections."""
    for _ in range(messages):
        assert router.poll(5000)
        inbox.connections.tidy()
        assert inbox.next() is not None
    deadline = time.monotonic() + 5
    while len(inbox.connections._open) != connections and time.monotonic() < deadline:
        inbox.connections.monitor.poll(50)
        inbox.connections.tidy()
    assert len(inbox.connections._open) == connections


def ended(monitors):
    """Which of them are told that their connection is over, the first one waited for."""
    assert any(monitor.poll(5000 if k == 0 else 0) for k, monitor in enumerate(monitors))
    return [bool(monitor.poll(0)) for monitor in monitors]


def test_the_mute_and_then_the_longest_silent_make_room(pair, hanging, monkeypatch):
    router, inbox, dealer = pair
    dealer.close()
    settled(inbox, router, 0, 0)
    first = hanging()
    settled(inbox, router, 1, 1)
    second = hanging()
    settled(inbox, router, 1, 2)
    mute = hanging(times=0)
    settled(inbox, router, 0, 3)
    third = hanging()
    settled(inbox, router, 1, 3)
    assert ended([mute, first, second, third]) == [True, False, False, False]
    fourth = hanging()
    settled(inbox, router, 1, 3)
    assert ended([first, second, third, fourth]) == [True, False, False, False]
    monkeypatch.setattr(sockets, "SILENT", -1.0)
    monkeypatch.setattr(inbox.connections, "_look_at", 0.0)
    settled(inbox, router, 0, 0)
    assert ended([second]) == [True]


@pytest.fixture
def keyed(tmp_path):
    """A CURVE server's inbox with room for eight, and a way to make connections by a key's name."""
    keys, context = KeyFolder(tmp_path / "keys"), zmq.Context(io_threads=2)
    pairings = {name: keys.new(name) for name in ("greedy", "other")}
    sockets.ZapAuthenticator(context, keys).start()
    router, port = sockets.open_router(context, parse_address("tcp://127.0.0.1:0"), keys, 16, 0)
    inbox, made = sockets.Inbox(router, secure=True, room=8), []

    def connect(name, say=True):
        dealer = context.socket(zmq.DEALER)
        use_pairing(dealer, pairings[name])
        dealer.setsockopt(zmq.RECONNECT_IVL, -1)
        monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        made.extend((dealer, monitor))
        dealer.connect(f"tcp://127.0.0.1:{port}")
        assert recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        if say:
            dealer.send(b"word")
        return monitor

    yield router, inbox, connect
    inbox.connections.close()
    for socket in made:
        socket.close(0)
    context.term()  # the thread at the door closes its own socket


def test_one_key_gets_its_share_of_connections_and_the_other_stays(keyed):
    router, inbox, connect = keyed
    other = connect("other")
    settled(inbox, router, 1, 1)
    greedy = []
    for connections in (2, 3, 3):
        greedy.append(connect("greedy"))
        settled(inbox, router, 1, connections)
    assert ended([*greedy, other]) == [True, False, False, False]


def test_who_holds_the_most_places_makes_room(keyed, monkeypatch):
    monkeypatch.setattr(sockets, "ONE_KEY", 1)
    router, inbox, connect = keyed
    other = connect("other")
    settled(inbox, router, 1, 1)
    greedy = [connect("greedy") for _ in range(8)]
    settled(inbox, router, 8, 8)
    assert sum(ended(greedy)) == 1 and not other.poll(0), "who was there first is silent longest"


def test_a_descriptor_that_is_another_connections_by_now_is_left_alone(pair):
    router, inbox, dealer = pair
    dealer.send(b"word")
    settled(inbox, router, 1, 1)
    (descriptor,) = inbox.connections._open
    inbox.connections._open[descriptor].peer = ("127.0.0.1", 1)
    inbox.connections._shut(descriptor)
    dealer.send(b"more")
    assert router.poll(5000) and inbox.next().frames == [b"more"]


def test_the_last_words_of_a_closed_connection_bring_it_back_for_nobody(pair):
    router, inbox, dealer = pair
    dealer.send(b"word")
    settled(inbox, router, 1, 1)
    (descriptor,) = inbox.connections._open
    dealer.send(b"last word")
    assert router.poll(5000)
    inbox.connections._shut(descriptor)
    assert inbox.next().frames == [b"last word"] and not inbox.connections._open
