# SPDX-License-Identifier: Apache-2.0
"""Fifty clients beside one greedy client of a service, and a batch with one worker and with two.

The stages are stand-ins that wait 0.7 s a job of the service and 1 s a photo of the batch, so that
the rest is the program's own.

    python benchmarks/service_load.py [--clients 50] [--photos 16]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from _support.batch_stages import DIARY, SLOW, STAGES, make_photo  # noqa: E402
from _support.service_running import Client, serving  # noqa: E402
from _support.stand_ins import write_photo  # noqa: E402
from crowdgaussian_shared.protocol import messages as m  # noqa: E402

GREEDY = 8  # jobs, as many as one client may have under way


def many_clients(folder: Path, count: int) -> None:
    """The greedy client is first with all its jobs; each other one then has one."""
    photo = write_photo(folder / "a.png").read_bytes()
    options = ("--workers", "2", "--set", "jobs_total=1000")
    with serving(folder / "data", *options) as service, ExitStack() as stack:
        places = (service.port, service.data_port)
        clients = [stack.enter_context(Client(*places)) for _ in range(count + 1)]
        started, of = time.perf_counter(), {}
        for number in range(GREEDY):
            of[clients[0].submit(photo + b"greedy%d" % number, "slow-people1.png")[0]] = 0
        for number in range(1, count + 1):
            of[clients[number].submit(photo + b"%d" % number, "slow-people1.png")[0]] = number
        ends: dict[str, float] = {}
        waits = []
        while len(ends) < len(of):
            for job in of.keys() - ends:
                asked = time.perf_counter()
                answer = clients[of[job]].status(job)
                waits.append(time.perf_counter() - asked)
                if answer.job.state in m.ENDED:
                    ends[job] = time.perf_counter() - started
            time.sleep(0.02)
    waits.sort()
    order = sorted(ends, key=lambda job: ends[job])
    before = [job for job in order[: order.index(last_of(order, of))] if of[job]]
    print(f"{len(of)} jobs of {count + 1} clients, 2 workers: {max(ends.values()):.1f} s")
    print(
        f"STATUS {1e3 * statistics.median(waits):.1f} ms, 99 % within "
        f"{1e3 * waits[int(0.99 * len(waits))]:.1f} ms, at most {1e3 * waits[-1]:.1f} ms"
    )
    print(f"{len(before)} of the others' {count} jobs ended before the last of the greedy one")


def last_of(order: list[str], of: dict[str, int]) -> str:
    """The greedy client's last job."""
    return [job for job in order if of[job] == 0][-1]


def batch(folder: Path, photos: int, workers: int) -> tuple[float, float]:
    """Photos per minute, and the seconds of a worker that a photo costs beside its own."""
    for number in range(photos):
        make_photo(folder / f"in/{number:03d}.png", SLOW, seed=number)
    (folder / "diary").touch()
    paths = (str(ROOT / "tests"), os.environ.get("PYTHONPATH"))
    more = {DIARY: str(folder / "diary"), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "crowdgaussian", "batch", str(folder / "in")]
    command += ["-o", str(folder / "out"), "--workers", str(workers), "--stages", STAGES]
    command += ["--set", "stages.refiner=none"]
    subprocess.run(command, env=os.environ | more, check=True, capture_output=True)
    lines = (folder / "out/batch.jsonl").read_text().splitlines()
    ends = [(entry["ended"], entry["seconds"]) for entry in map(json.loads, lines)]
    first = min(end - seconds for end, seconds in ends)
    took = max(end for end, _ in ends) - first
    return 60 * photos / took, (workers * took - sum(seconds for _, seconds in ends)) / photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--photos", type=int, default=16)
    arguments = parser.parse_args()
    rates = []
    with tempfile.TemporaryDirectory() as place:
        for workers in (1, 2):
            rate, beside = batch(Path(place) / str(workers), arguments.photos, workers)
            rates.append(rate)
            print(
                f"batch, {workers} workers: {rate:.1f} photos a minute, "
                f"{1e3 * beside:.0f} ms beside each"
            )
        print(f"two workers do {rates[1] / rates[0]:.2f} times as many as one")
        many_clients(Path(place), arguments.clients)


if __name__ == "__main__":
    main()
