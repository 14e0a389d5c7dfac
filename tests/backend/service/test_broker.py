# SPDX-License-Identifier: Apache-2.0
"""The broker's loop: what cannot be stored, sent or stopped just now ends nothing and waits."""

import sqlite3
import time
from types import SimpleNamespace

import pytest
from crowdgaussian.service import broker as broker_module
from crowdgaussian.service import control, sockets
from crowdgaussian.service.broker import Broker
from crowdgaussian.service.settings import ServiceSettings, parse_address
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol import messages as m


@pytest.fixture
def broker(tmp_path):
    made = Broker(ServiceSettings(tmp_path, bind=parse_address("tcp://127.0.0.1:0"), workers=1))
    yield made
    made.close()


def test_what_cannot_be_stored_is_stored_later(broker, monkeypatch):
    stored, full = [], [True]

    def store():
        if full[0]:
            raise sqlite3.OperationalError("database or disk is full")
        stored.append(1)

    def broken():
        raise RuntimeError("a fault of ours")

    broker._due.extend([store, broken, store])
    broker._store_due()
    assert len(broker._due) == 3 and not stored
    full[0] = False
    broker._store_due()
    assert not stored, "not again at once"
    monkeypatch.setattr(broker, "_store_again", 0.0)
    broker._store_due()
    assert len(stored) == 2 and not broker._due


def test_many_events_are_stored_a_moment_at_a_time(broker, monkeypatch):
    """A job of 1,500 quick steps used to hold up everybody until all of them were stored."""
    stored = []
    monkeypatch.setattr(broker_module, "STORING", 0.01)
    for number in range(100):
        broker._due.append(lambda number=number: (time.sleep(0.002), stored.append(number)))
    broker._store_due()
    assert 0 < len(stored) < 50
    while broker._due:
        broker._store_due()
    assert stored == [*range(100)]


def test_who_has_much_to_be_sent_is_sent_it_in_turns(broker, monkeypatch):
    sessions, sent = broker._sessions, []
    monkeypatch.setattr(control, "PUMPING", 0.0)
    monkeypatch.setattr(control, "BURST", 2)
    monkeypatch.setattr(control, "send", lambda socket, to, event: sent.append((to, event)) or True)
    monkeypatch.setattr(
        sessions,
        "_store",
        SimpleNamespace(events=lambda job, last, most: EVENTS[last : last + most]),
    )
    for name in (b"one", b"two"):
        sessions.welcome(name, "local:x", "")
        sessions.follow(sessions.find(name), "job", 0)
    while sessions.pump():
        pass
    assert [to for to, _ in sent] == 3 * [b"one", b"one", b"two", b"two"]
    assert [event.seq for to, event in sent if to == b"two"] == [1, 2, 3, 4, 5, 6]
    assert not sessions.behind


EVENTS = [m.Event(0, "job", seq, "running", m.Progress()) for seq in range(1, 7)]


class Dying:
    """A process that takes a while to go."""

    pid, stdin, dead, kills = 1, None, False, 0

    def kill(self):
        self.kills += 1

    def poll(self):
        return -9 if self.dead else None

    def wait(self, seconds=None):
        assert self.dead, "nobody waits for it"


def test_nobody_waits_until_a_killed_worker_is_gone(broker):
    """One with gigabytes of memory used to hold up the loop while the system took it down."""
    (worker,) = broker._pool.workers
    process = worker.process = Dying()
    worker.ready, worker.job, worker.deadline = True, "job", 0.0
    assert broker._pool.supervise() == [] and process.kills == 1
    worker.job = ""
    assert broker._pool.idle() == [], "it gets no job any more"
    worker.job, process.dead = "job", True
    (lost,) = broker._pool.supervise()
    assert (lost.job, lost.why, worker.process) == ("job", "frozen", None)


def test_no_job_is_queued_again_while_its_end_waits_to_be_stored(broker, monkeypatch):
    asked = []
    monkeypatch.setattr(broker._jobs, "reconcile", asked.append)
    broker._due.append(lambda: None)
    broker._sweep()
    assert not asked
    broker._due.clear()
    broker._sweep()
    assert asked == [{""}], "the one worker has no job"


def test_a_letter_that_breaks_something_is_its_senders_affair(broker, monkeypatch):
    forgotten = []
    monkeypatch.setattr(broker._sessions, "forget", forgotten.append)
    monkeypatch.setattr(broker._control, "handle", lambda envelope: 1 / 0)
    broker._read(sockets.Envelope(b"me", "", []))
    assert forgotten == [b"me"]


@pytest.fixture
def quiet(broker, monkeypatch):
    """A broker to which nothing happens, whose pauses take no time."""
    monkeypatch.setattr(broker._stopping, "wait", lambda seconds: None)
    broker._pool.socket.close()
    monkeypatch.setattr(broker_module.zmq, "Poller", lambda: Quiet())
    monkeypatch.setattr(broker._data, "start", lambda: None)
    monkeypatch.setattr(broker._data, "is_alive", lambda: True)
    return broker


def fails(times, then=lambda: None):
    """A step that finds the disk full so many times."""
    left = [times]

    def step():
        left[0] -= 1
        if left[0] >= 0:
            raise sqlite3.OperationalError("database or disk is full")
        then()

    return step


def test_a_full_disk_at_the_start_is_waited_for(quiet, monkeypatch):
    """It used to end in a broker that neither served nor stopped."""
    begun = []
    monkeypatch.setattr(quiet._jobs, "recover", fails(2, lambda: begun.append(1)))
    monkeypatch.setattr(quiet, "_turn", quiet.stop)
    quiet.run()
    assert begun == [1]


def test_without_its_data_thread_a_service_ends_with_a_sentence(quiet, monkeypatch):
    monkeypatch.setattr(quiet._data, "is_alive", lambda: False)
    with pytest.raises(CrowdGaussianError, match="data port's thread has ended; start"):
        quiet.run()


def test_a_sweep_that_fails_ends_nothing(quiet, monkeypatch):
    turns = []

    def turn():
        turns.append(1)
        if len(turns) == 3:
            quiet.stop()

    monkeypatch.setattr(broker_module, "SWEEP", -1.0)
    monkeypatch.setattr(quiet, "_turn", turn)
    monkeypatch.setattr(quiet, "_sweep", fails(9))
    quiet.run()
    assert len(turns) == 3


class Quiet:
    """A poller to which nothing happens."""

    def register(self, *_):
        pass

    def poll(self, *_):
        return []
