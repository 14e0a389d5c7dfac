# SPDX-License-Identifier: Apache-2.0
"""What the workers run in the service's tests: the real pipeline with stand-in stages.

How it behaves is said by the photo's name: "slow-people3.png" has three people and takes a while.
"""

import os
import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

from crowdgaussian.core.progress import Progress  # noqa: E402
from crowdgaussian.pipeline import checkpoint, stages
from crowdgaussian.pipeline.config import Config, with_setting  # noqa: E402
from crowdgaussian.pipeline.reconstruct import Job, reconstruct  # noqa: E402

from _support.stand_ins import Script  # noqa: E402


def run(job: Job, report):
    """As pipeline.reconstruct."""
    name = job.photo_name
    people = re.search(r"people(\d+)", name)
    script = Script(people=int(people[1]) if people else 2, seconds=0.7 if "slow" in name else 0.0)
    if "chatty" in name:
        for step in range(1500):
            report(Progress(f"step {step}", 0.5))
    if "stuck" in name:
        time.sleep(600)
    if "frozen" in name:
        os.kill(os.getpid(), signal.SIGSTOP)
    if "poison" in name:
        raise ValueError("poison")
    refined = "refined" in name
    config = (
        with_a_tiny_refiner(job) if refined else with_setting(job.config, "stages.refiner", "none")
    )
    job = replace(job, config=config)
    with patch.object(checkpoint, "files_for", lambda config: []):
        return reconstruct(
            job,
            report,
            lambda config: replace(script.stages(config), refiner=stages.load_refiner(config)),
        )


def with_a_tiny_refiner(job: Job) -> Config:
    """Settings of a refinement that takes a moment, with random weights beside the scene."""
    from crowdgaussian.refiner.networks.small_unet import SmallConfig, SmallRefiner, save_small

    weights = job.out.parent / "tiny.safetensors"
    save_small(SmallRefiner(SmallConfig(widths=(4, 8))), weights)
    config = job.config
    for setting, value in (
        ("stages.refiner", "small"),
        ("refine.weights", weights),
        ("refine.reach", 0.5),
        ("refine.photo_px", 32),
        ("refine.distil.views", 2),
        ("refine.distil.size", 32),
        ("refine.distil.rounds", 1),
        ("refine.distil.steps", 3),
    ):
        config = with_setting(config, setting, str(value))
    return config
