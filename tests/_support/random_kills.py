# SPDX-License-Identifier: Apache-2.0
"""Jobs of a real service while broker, worker and client are killed and writes fail.

    python tests/_support/random_kills.py [JOBS KILLS FAULTS SEED]      # without: 100 60 20 18

Everybody is a process of their own, the client is the project's. What happens is drawn by a seed
and comes after so many jobs, not after so many seconds. Prints what is wrong, and a summary.
"""

import faulthandler
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

sys.path.insert(0, str(Path(__file__).parents[1]))

from _support.fault_points import Points  # noqa: E402
from _support.service_running import Client, Service, artifacts_of, start  # noqa: E402

SEED = 18
MODULE = "_support.random_kills"
FOLDER = "CROWDGAUSSIAN_TEST_FAULTS"  # variable: where faults are laid down
NAMES = ("people1.png", "people2.png", "slow-people1.png", "slow-people2.png")
MOST_WRITES = 40  # that go well before a fault strikes
PATIENCE = 120.0  # seconds without a job more done, then it has stalled
AT_ONCE = 8  # jobs of the client, as many as the service takes of one
SWEEP = 1.0  # seconds between the broker's sweeps, 30 otherwise


class LaidDown(Points):
    """One write fails for each file fault-N in a folder, after N others, whoever writes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._rename = folder, os.rename
        super().__init__(0, "full")

    def pass_one(self, error: Exception) -> None:
        for path in sorted(self._folder.glob("fault-*")):
            left = int(path.name.split("-")[1])
            with suppress(FileNotFoundError):  # another process was there first
                self._rename(path, path.with_name(f"fault-{left - 1}" if left else "struck"))
                if not left:
                    raise error


def serve(arguments: list[str]) -> int:
    """The broker, which sweeps often."""
    from crowdgaussian.cli.main import main
    from crowdgaussian.service import broker

    broker.SWEEP = SWEEP
    return main(arguments)


def run(job, report):
    """What the workers run."""
    from _support.service_pipeline import run

    return run(job, report)


def follow(photos: Path, out: Path, address: str, data_port: str) -> None:
    """The client: sends every photo and mirrors every scene, and begins again what failed."""
    from crowdgaussian_shared.client import data
    from crowdgaussian_shared.client.client import Client as Mirroring
    from crowdgaussian_shared.client.server import Server
    from crowdgaussian_shared.client.ticket import JobRequest
    from crowdgaussian_shared.client.updates import JobUpdate

    data.LONGEST_PAUSE = 2.0  # seconds; the service comes back within moments
    client = Mirroring(Server.parse(address, data_port=int(data_port)), "kills", "0" * 36)
    waiting = [p for p in sorted(photos.iterdir()) if not (out / f"{p.name}.done").exists()]
    at_work: dict[str, Path] = {}
    while waiting or at_work:
        while waiting and len(at_work) < AT_ONCE:
            photo = waiting.pop(0)
            at_work[client.submit(JobRequest(photo, out / photo.stem))] = photo
        client.pump()
        for update in client.poll():
            if isinstance(update, JobUpdate) and update.finished and update.job in at_work:
                photo = at_work.pop(update.job)
                if update.succeeded:
                    (out / f"{photo.name}.done").write_text(update.job)
                else:
                    waiting.append(photo)
    client.close()


@dataclass
class Storm:
    """One service, one client, and what is to happen to them."""

    place: Path
    jobs: int
    rng: random.Random
    happened: Counter[str] = field(default_factory=Counter)
    pids: set[int] = field(default_factory=set)
    service: Service | None = None
    client: Popen | None = None

    def __post_init__(self) -> None:
        from _support.stand_ins import write_photo

        for name in ("photos", "out", "faults", "tmp"):
            (self.place / name).mkdir()
        for k in range(self.jobs):
            write_photo(self.place / "photos" / f"{k:03d}-{self.rng.choice(NAMES)}", seed=k)

    def __enter__(self) -> "Storm":
        self.start_service()
        self.start_client()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.client, self.service.process):
            process.kill()
            process.wait()
        self.service.process.stdout.close()

    @property
    def done(self) -> dict[str, str]:
        """The job by photo, of those whose scene is here."""
        return {p.stem: p.read_text() for p in (self.place / "out").glob("*.done")}

    def start_service(self) -> None:
        port = self.service.port if self.service else 0
        ports = ("--data-port", str(self.service.data_port)) if self.service else ()
        more = {FOLDER: str(self.place / "faults"), "TMPDIR": str(self.place / "tmp")}
        for _ in range(5):  # a fault may strike its start
            with suppress(RuntimeError):
                self.service = start(
                    self.place / "data",
                    *(
                        "--workers",
                        str(1 + (self.jobs > AT_ONCE)),
                        "--set",
                        "beat_seconds=0.5",
                        *ports,
                    ),
                    pipeline=f"{MODULE}:run",
                    bind=f"tcp://127.0.0.1:{port}",
                    program=MODULE,
                    environment=more,
                )
                self.pids.add(self.service.process.pid)
                return
        raise RuntimeError("the service does not start")

    def start_client(self) -> None:
        to = (f"tcp://127.0.0.1:{self.service.port}", str(self.service.data_port))
        folders = (str(self.place / "photos"), str(self.place / "out"))
        command = [sys.executable, str(Path(__file__)), "follow", *folders, *to]
        self.client = Popen(command)
        self.pids.add(self.client.pid)

    def until(self, count: int) -> None:
        """Waits until so many jobs are done, and looks after the processes meanwhile."""
        before, deadline = -1, 0.0
        while len(self.done) < count:
            if len(self.done) > before:
                before, deadline = len(self.done), time.monotonic() + PATIENCE
            if time.monotonic() > deadline:
                raise TimeoutError(f"no job more than {before} in {PATIENCE:.0f} s\n{self.now()}")
            if self.client.poll() is not None:
                self.happened["client ended by itself"] += 1
                self.start_client()
            if self.service.process.poll() is not None:
                self.happened["broker ended by itself"] += 1
                self.service.process.stdout.close()
                self.start_service()
            time.sleep(0.05)
        self.pids.update(self.service.workers())

    def now(self) -> str:
        """How things stand, for whoever looks for a stall."""
        with sqlite3.connect(self.service.data / "jobs.sqlite") as database:
            query = "SELECT state, count(*) FROM jobs GROUP BY state"
            states = ", ".join(f"{count} {state}" for state, count in database.execute(query))
        for pid in (self.service.process.pid, *self.service.workers()[-2:], self.client.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)  # where they are, into the log
        time.sleep(1.0)
        return states + "\n" + self.service.log.read_text()[-9000:]

    def happen(self, what: str) -> None:
        """A kill or a fault, a moment later."""
        time.sleep(self.rng.uniform(0.0, 1.0))
        self.happened[what] += 1
        self.pids.update(workers := self.service.workers())
        if what == "broker":
            self.service.kill()
            self.start_service()
        elif what == "client":
            self.client.kill()
            self.client.wait()
            self.start_client()
        elif what == "worker" and workers:
            with suppress(ProcessLookupError):
                os.kill(self.rng.choice(workers[-2:]), signal.SIGKILL)
        else:
            faults = self.place / "faults"
            (faults / f"fault-{self.rng.randrange(MOST_WRITES)}").touch()

    def faults_left(self) -> int:
        return len(list((self.place / "faults").glob("fault-*")))


def wrong(storm: Storm) -> Iterator[str]:
    """What is not as it should be when all is over."""
    service, done = storm.service, storm.done
    with Client(service.port, service.data_port, name="0" * 36) as client:
        for name, job in sorted(done.items()):
            events = client.follow(job, until=("done",))
            yield from (f"{name}: {said}" for said in wrong_job(storm, Path(name).stem, events))
    time.sleep(3 * SWEEP + 1.0)  # sweeps, and the trash is emptied
    yield from left_over(service.data)
    if service.stop():
        yield "the service did not stop rightly"
    yield from (f"{path} is left" for path in (storm.place / "tmp").glob("crowdgaussian-*"))
    deadline = time.monotonic() + 5.0
    while (alive := [pid for pid in storm.pids if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    if alive:
        yield f"processes are left: {alive}"


def wrong_job(storm: Storm, name: str, events: list) -> Iterator[str]:
    """One job's events, its files there and here."""
    from crowdgaussian_shared.scene.folder import SceneFolder
    from crowdgaussian_shared.scene.schema import hash_file

    if events[-1].state != "done" or [e.seq for e in events] != list(range(1, len(events) + 1)):
        yield f"ends {events[-1].state} after {len(events)} events"
    newest, folder = artifacts_of(events), storm.place / "out" / name
    people = int(name[-1])
    if len(newest) != 3 + 4 * people or not all(
        person.state == "done" for person in SceneFolder.open(folder).info.people
    ):
        yield f"has {sorted(newest)}"
    for artifact in newest.values():
        here = folder / artifact.name
        if not here.is_file() or hash_file(here) != artifact.blake2b:
            yield f"{artifact.name} is missing or damaged"
    here = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    yield from (f"{extra} is left" for extra in here - {*newest, ".wire/job.json"})


def left_over(data: Path) -> Iterator[str]:
    """Files that no job needs."""
    with sqlite3.connect(data / "jobs.sqlite") as database:
        keys = {key for (key,) in database.execute("SELECT key FROM jobs")}
        states = Counter(state for (state,) in database.execute("SELECT state FROM jobs"))
        needed = set(
            database.execute(
                "SELECT key, blake2b FROM artifacts JOIN jobs USING (job) WHERE newest"
            )
        )
    if set(states) != {"done"}:
        yield f"jobs are {dict(states)}"
    for folder in ("uploads", "trash"):
        yield from (f"{path} is left" for path in (data / folder).iterdir())
    for result in (data / "results").iterdir():
        if result.name not in keys:
            yield f"{result} is nobody's"
        objects = {path.name for path in (result / "objects").iterdir()}
        extra = objects - {name for key, name in needed if key == result.name}
        yield from (f"{result}/objects/{name} is nobody's" for name in extra)
        half = (path for path in result.rglob("*") if path.suffix in (".tmp", ".part"))
        yield from (f"{path} is left" for path in half)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def main(jobs: int = 100, kills: int = 60, faults: int = 20, seed: int = SEED) -> int:
    """-> 1 when something went wrong."""
    started = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kills-")))
        storm = stack.enter_context(Storm(folder, jobs, random.Random(seed)))
        kinds = ("broker", "worker", "client")
        plan = [kinds[k % 3] for k in range(kills)] + ["fault"] * faults
        storm.rng.shuffle(plan)
        for number, what in enumerate(plan):
            storm.until(max(0, jobs - AT_ONCE) * number // len(plan))
            storm.happen(what)
        storm.until(jobs)
        found = [*wrong(storm)]
        struck, done = faults - storm.faults_left(), len(storm.done)
    for line in found:
        print(line)
    counts = ", ".join(f"{count} {what}" for what, count in sorted(storm.happened.items()))
    print(f"{counts}; {struck} faults struck; {time.monotonic() - started:.0f} s")
    print(f"{done} of {jobs} jobs done, {len(found)} wrong")
    return int(bool(found) or done < jobs)


if sys.argv[1:2] == ["follow"] or os.environ.get(FOLDER):
    faulthandler.register(signal.SIGUSR1)
if os.environ.get(FOLDER):
    LaidDown(Path(os.environ[FOLDER]))  # for the life of this process, whether broker or worker

if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        sys.exit(serve(sys.argv[1:]))
    if sys.argv[1:2] == ["follow"]:
        follow(*(Path(argument) for argument in sys.argv[2:4]), *sys.argv[4:])
        sys.exit(0)
    sys.exit(main(*map(int, sys.argv[1:])))
