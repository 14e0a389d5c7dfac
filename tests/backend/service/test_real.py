# SPDX-License-Identifier: Apache-2.0
"""The service with the real pipeline: the files are those of the command line, byte for byte."""

import subprocess
import sys
import time
from pathlib import Path

import crowdgaussian
import pytest
from _support.service_running import Client, artifacts_of, serving
from crowdgaussian_shared.protocol import messages as m
from PIL import Image

SAMPLE = Path(crowdgaussian.__file__).parent / "synthetic/sample_data/sample.jpg"
SETTINGS = {  # equal bytes are asked for, not beauty
    "people.boxes": "38,32,136,264;110,15,217,290",  # whom the search finds, test_demo asks
    "people.pose_steps": "10",
    "people.ground_steps": "5",
    "avatar.max_crop_px": "200",
    "avatar.pose_steps": "1",
    "avatar.contour_steps": "1",
    "avatar.gaussians": "3000",
    "avatar.colour_steps": "5",
    "refine.distil.steps": "3",
    "refine.distil.views": "4",
    "refine.distil.size": "96",
    "refine.photo_px": "128",
}
MINUTES = 15 * 60.0


@pytest.fixture
def photo(tmp_path):
    """The two people on the left of the sample, a third as large."""
    with Image.open(SAMPLE) as sample:
        sample.crop((60, 150, 760, sample.height)).reduce(3).save(tmp_path / "two.png")
    return tmp_path / "two.png"


def by_command_line(photo, out):
    options = [text for item in SETTINGS.items() for text in ("--set", "=".join(item))]
    command = [sys.executable, "-m", "crowdgaussian", "reconstruct", str(photo), "-o", str(out)]
    subprocess.run([*command, *options], check=True, timeout=MINUTES)


@pytest.mark.slow
def test_the_sample_through_the_service_is_the_sample_by_command_line(photo, tmp_path):
    out = tmp_path / "out"
    by_command_line(photo, out)
    with (
        serving(tmp_path / "data", pipeline="") as service,
        Client(service.port, service.data_port) as client,
    ):
        job, _ = client.submit(photo.read_bytes(), photo.name, settings=SETTINGS)
        events = client.follow(job, timeout=MINUTES)
        assert events[-1].state == "done", events[-1].error
        found = artifacts_of(events)
        assert "people/001/avatar.npz" in found
        for name, artifact in found.items():
            assert client.fetch(job, name, artifact.blake2b) == (out / name).read_bytes(), name
        job, _ = client.submit(photo.read_bytes(), photo.name, settings={"avatar.seed": "7"})
        client.follow(job, until=("running",))
        time.sleep(3.0)  # inside of a long step
        started = time.perf_counter()
        client.ask(m.Cancel, job=job)
        assert client.wait(job)[-1].state == "cancelled"
        assert time.perf_counter() - started < 4.0, "3 s on a machine with nothing else to do"
    written = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert {n for n in written - set(found) if not n.endswith("fit.npz")} == {"timings.json"}
