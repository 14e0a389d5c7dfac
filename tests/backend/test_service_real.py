# SPDX-License-Identifier: Apache-2.0
"""The service with the real pipeline: the files are those of the command line, byte for byte."""

import subprocess
import sys
from pathlib import Path

import crowdgaussian
import pytest
from service_running import Client, artifacts_of, serving

SAMPLE = Path(crowdgaussian.__file__).parent / "sample/sample.jpg"
SETTINGS = {"people.max_people": "2", "avatar.gaussians": "3000", "avatar.colour_steps": "5"}
MINUTES = 15 * 60.0


@pytest.mark.slow
def test_the_sample_through_the_service_is_the_sample_by_command_line(tmp_path):
    out = tmp_path / "out"
    options = [text for item in SETTINGS.items() for text in ("--set", "=".join(item))]
    subprocess.run([sys.executable, "-m", "crowdgaussian", "reconstruct", str(SAMPLE), "-o",
                    str(out), *options], check=True, timeout=MINUTES)
    with (serving(tmp_path / "data", pipeline="") as service,
          Client(service.port, service.data_port) as client):
        job, _ = client.submit(SAMPLE.read_bytes(), SAMPLE.name, settings=SETTINGS)
        events = client.follow(job, timeout=MINUTES)
        assert events[-1].state == "done", events[-1].error
        found = artifacts_of(events)
        assert "people/001/avatar.npz" in found
        for name, artifact in found.items():
            assert client.fetch(job, name, artifact.blake2b) == (out / name).read_bytes(), name
    written = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert {n for n in written - set(found) if not n.endswith("fit.npz")} == {"timings.json"}
