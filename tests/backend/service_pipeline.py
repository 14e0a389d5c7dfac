# SPDX-License-Identifier: Apache-2.0
"""What the workers run in the service's tests: the real pipeline with stand-in stages.

How it behaves is said by the photo's name: "slow-people3.png" has three people and takes a while.
"""

import os
import re
import signal
import sys
import time
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))

from crowdgaussian import pipeline  # noqa: E402
from crowdgaussian.pipeline import Job, reconstruct  # noqa: E402
from crowdgaussian.progress import Progress  # noqa: E402
from stand_ins import Script  # noqa: E402


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
    with patch.object(pipeline, "files_for", lambda config: []):
        return reconstruct(job, report, script.stages)
