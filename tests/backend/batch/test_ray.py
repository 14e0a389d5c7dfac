# SPDX-License-Identifier: Apache-2.0
"""The batch on a Ray cluster of two computers, which are processes here; needs Ray."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason='ray is missing (285 MB, so not in dev): pip install "ray>=2.60"')

from _support.batch_stages import DIARY, HANG, POISON, SLOW, STAGES, load, make_photo  # noqa: E402
from crowdgaussian.pipeline.config import Job, configured  # noqa: E402
from crowdgaussian.pipeline.reconstruct import reconstruct  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
TESTS = Path(__file__).parents[2]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Two computers of one core, and where their workers find the stand-in stages."""
    from ray.cluster_utils import Cluster

    (tmp_path / "diary").touch()
    paths = [str(TESTS), *filter(None, sys.path)]
    for name, value in (
        (DIARY, str(tmp_path / "diary")),
        ("PYTHONPATH", os.pathsep.join(dict.fromkeys(paths))),
        ("CUDA_VISIBLE_DEVICES", ""),
        ("RAY_USAGE_STATS_ENABLED", "0"),
    ):
        monkeypatch.setenv(name, value)
    options = {"num_cpus": 1, "object_store_memory": 100 << 20}
    running = Cluster(initialize_head=True, head_node_args=options | {"include_dashboard": False})
    running.second = running.add_node(**options)
    yield running
    running.shutdown()


def batch(tmp_path, *more):
    command = [sys.executable, "-m", "crowdgaussian", "batch", str(tmp_path / "in")]
    command += ["-o", str(tmp_path / "out"), "--set", "stages.refiner=none", "--stages", STAGES]
    with (tmp_path / "log").open("w") as log:
        return subprocess.Popen([*command, *more], stdout=log, stderr=log)


def ended(tmp_path):
    path = tmp_path / "out/batch.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {entry["folder"]: entry["state"] for entry in map(json.loads, lines)}


def contents(folder):
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "timings.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_lost_computer_and_bad_photos_cost_no_scene(tmp_path, cluster):
    good = [make_photo(tmp_path / f"in/{i}.png", SLOW, people=3, seed=i) for i in range(6)]
    make_photo(tmp_path / "in/a_hang.png", HANG)
    make_photo(tmp_path / "in/b_poison.png", POISON)
    run = batch(tmp_path, "--ray", cluster.address, "--limit", "15", "--send-photos")
    while len(ended(tmp_path)) < 3 and run.poll() is None:
        time.sleep(0.1)
    cluster.remove_node(cluster.second, allow_graceful=False)
    assert run.wait() == 1, (tmp_path / "log").read_text()
    states = {"a_hang": "failed", "b_poison": "failed"}
    assert ended(tmp_path) == states | dict.fromkeys((photo.stem for photo in good), "done")
    for photo in good:
        plain = tmp_path / "plain" / photo.stem
        config = configured("open", {"stages.refiner": "none"})
        reconstruct(Job(photo, plain, config), make_stages=load)
        assert contents(plain) == contents(tmp_path / "out" / photo.stem)
    assert not list((tmp_path / "out").glob(".*"))
