# SPDX-License-Identifier: Apache-2.0
"""How long the main job takes: seconds per person for each stage, and growth with people.

.venv/backend/bin/python benchmarks/pipeline.py [PHOTO] [--people 1 2 4 6]
"""

import argparse
import resource
import tempfile
from pathlib import Path

from crowdgaussian.core.progress import prepare_process

prepare_process()  # before torch and numba are imported

from crowdgaussian.core.progress import silent  # noqa: E402
from crowdgaussian.pipeline.config import Job, preset, with_setting  # noqa: E402
from crowdgaussian.pipeline.reconstruct import reconstruct  # noqa: E402

SAMPLE = Path(__file__).parents[1] / "backend/crowdgaussian/synthetic/sample_data/sample.jpg"
STAGES = ("people", "masks", "avatars")


def measure(photo: Path, people: int) -> tuple[int, dict[str, float]]:
    """Runs the job with at most that many people -> how many there were, seconds by stage."""
    config = with_setting(preset("open"), "people.max_people", str(people))
    with tempfile.TemporaryDirectory() as folder:
        scene = reconstruct(Job(photo, Path(folder) / "out", config), silent)
        return len(scene.info.people), scene.timings.stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--people", nargs="+", type=int, default=[1, 2, 4, 6])
    arguments = parser.parse_args()
    measure(arguments.photo, 1)  # compiles kernels and loads models
    print(
        f"{'people':>6} {'total s':>8} {'ratio':>6}  "
        + "  ".join(f"{f'{stage} s/person':>17}" for stage in STAGES)
    )
    first = None
    for wanted in arguments.people:
        found, seconds = measure(arguments.photo, wanted)
        total = sum(seconds.values())
        first = first or total
        shares = "  ".join(f"{seconds[stage] / found:17.2f}" for stage in STAGES)
        print(f"{found:6d} {total:8.1f} {total / first:6.2f}  {shares}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"peak memory {peak:.2f} GB; ratio: total against the first row")


if __name__ == "__main__":
    main()
