# SPDX-License-Identifier: Apache-2.0
"""A batch on a Ray cluster of two nodes on this computer, one actor each, with stand-in stages.

First what a photo costs beside its own work, on Ray and in a plain loop of one process; then as
many photos again with one that ends its worker, one that hangs, and an actor and a node that are
killed; then two drivers at once on one OUT.

    pip install "ray>=2.60" && python benchmarks/ray_batch.py [--photos 30]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from _support.batch_stages import DIARY, HANG, POISON, SLOW, STAGES, make_photo  # noqa: E402
from crowdgaussian.batch.local import Order, PhotoWorker  # noqa: E402
from crowdgaussian.batch.plan import PhotoTask  # noqa: E402

SETTINGS = {"stages.refiner": "none"}
LIMIT = 40  # seconds that a photo may take


def entries(out: Path) -> list[dict]:
    """What the manifest says, the last word of each photo."""
    path = out / "batch.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [*{entry["folder"]: entry for entry in map(json.loads, lines)}.values()]


def driver(place: Path, name: str, address: str, out: str, workers: int = 0) -> subprocess.Popen:
    """`crowdgaussian batch --ray` in a process of its own."""
    command = [sys.executable, "-m", "crowdgaussian", "batch", str(place / name), "-o"]
    command += [str(place / out), "--ray", address, "--stages", STAGES, "--limit", str(LIMIT)]
    command += ["--set", "stages.refiner=none", "--cpus", "1"]
    command += ["--workers", str(workers)] if workers else []
    log = (place / f"{name}-{time.monotonic_ns()}.log").open("w")
    return subprocess.Popen(command, stdout=log, stderr=log)


def beside(found: list[dict], workers: int) -> float:
    """Seconds of a worker that a photo took beside its own work."""
    first = min(one["ended"] - one["seconds"] for one in found)
    took = max(one["ended"] for one in found) - first
    return (workers * took - sum(one["seconds"] for one in found)) / len(found)


def plain(place: Path, name: str, out: str) -> float:
    """The same photos in one process, one after the other -> seconds beside each one's own."""
    order = Order(str(place / out), "open", SETTINGS, stages=STAGES)
    worker, own = PhotoWorker(order, threading.Event()), []
    photos = sorted((place / name).glob("*.png"))
    started = time.perf_counter()
    for photo in photos:
        own.append(worker.run(PhotoTask(str(photo), photo.stem, "x")).seconds)
    return (time.perf_counter() - started - sum(own)) / len(photos)


def contents(folder: Path) -> dict[str, bytes]:
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "timings.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def overhead(place: Path, cluster: Any, photos: int) -> None:
    for number in range(photos):
        make_photo(place / f"in/{number:02d}.png", people=2, seed=number)
    driver(place, "in", cluster.address, "ray").wait()
    loads = Counter(line for line in (place / "diary").read_text().splitlines() if "load" in line)
    ray, loop = beside(entries(place / "ray"), 2), plain(place, "in", "plain")
    print(f"a photo beside its own work: {1e3 * ray:.0f} ms on Ray, {1e3 * loop:.0f} ms in a loop")
    print(f"{len(loads)} actors, each loaded its models {max(loads.values())} time(s)")


def faults(place: Path, cluster: Any, photos: int) -> None:
    good = [f"{number:02d}" for number in range(photos)]
    for number, name in enumerate(good):
        make_photo(place / f"worse/{name}.png", SLOW, people=2, seed=number)
    make_photo(place / "worse/a_hang.png", HANG)
    make_photo(place / "worse/b_poison.png", POISON)
    run = driver(place, "worse", cluster.address, "worse-out")
    for count, stop in ((photos // 3, kill_actor), (photos // 2, cluster.remove_second)):
        while len(entries(place / "worse-out")) < count and run.poll() is None:
            time.sleep(0.1)
        stop(place)
    code = run.wait()
    states = Counter(one["state"] for one in entries(place / "worse-out"))
    named = [one["folder"] for one in entries(place / "worse-out") if one["state"] == "failed"]
    equal = sum(same(place, name) for name in good)
    print(
        f"exit code {code}, {dict(states)}, failed: {named}; {equal} scenes equal to a plain run's"
    )


def same(place: Path, name: str) -> bool:
    """Whether a scene of Ray is that of a plain run, byte by byte."""
    order = Order(str(place / "worse-plain"), "open", SETTINGS, stages=STAGES)
    worker = PhotoWorker(order, threading.Event())
    worker.run(PhotoTask(str(place / f"worse/{name}.png"), name, "x"))
    return contents(place / "worse-plain" / name) == contents(place / "worse-out" / name)


def kill_actor(place: Path) -> None:
    """The process that loaded models last."""
    lines = (place / "diary").read_text().splitlines()
    os.kill(int([line for line in lines if "load" in line][-1].split()[1]), signal.SIGKILL)


def two_drivers(place: Path, cluster: Any, photos: int) -> None:
    before = (place / "diary").read_text().count("estimate")
    for number in range(photos):
        make_photo(place / f"both/{number:02d}.png", SLOW, people=2, seed=900 + number)
    runs = [driver(place, "both", cluster.address, "both-out", 1) for _ in range(2)]
    codes = [run.wait() for run in runs]
    worked = (place / "diary").read_text().count("estimate") - before
    states = Counter(one["state"] for one in entries(place / "both-out"))
    print(f"two drivers on {photos} photos: exit codes {codes}, {dict(states)}, {worked} computed")


def main() -> None:
    from ray.cluster_utils import Cluster

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=30)
    photos = parser.parse_args().photos
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "diary").touch()
        paths = (str(ROOT / "tests"), *filter(None, sys.path))
        os.environ |= {
            DIARY: str(place / "diary"),
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
            "CUDA_VISIBLE_DEVICES": "",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # as the plain loop, on a busy machine
        }
        options = {"num_cpus": 1, "object_store_memory": 100 << 20}
        cluster = Cluster(
            initialize_head=True, head_node_args=options | {"include_dashboard": False}
        )
        second = cluster.add_node(**options)
        cluster.remove_second = lambda _: cluster.remove_node(second, allow_graceful=False)
        try:
            overhead(place, cluster, photos)
            faults(place, cluster, photos)
            cluster.add_node(**options)
            two_drivers(place, cluster, 8)
        finally:
            cluster.shutdown()


if __name__ == "__main__":
    main()
