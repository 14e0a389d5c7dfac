# SPDX-License-Identifier: Apache-2.0
"""Everything that wants a GPU, in one run of under eight minutes: is it right, fast, small enough?

    make gpu-check                    or: python scripts/gpu_check.py -o out/gpu
    python scripts/gpu_check.py --dry-run      every step at a small size on the CPU

Nothing is downloaded: networks have the published layouts and random weights, people are made up.
It works with the torch that is there; a step whose packages are missing is skipped and they are
named. Each step is a process of its own, so one that fails or hangs takes no other with it. Writes
gpu_check.json and gpu_check.md.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / n) for n in ("backend", "shared", "tests", "benchmarks", "scripts")]

import torch  # noqa: E402
from gpu_parts import networks, splats  # noqa: E402
from gpu_parts.measure import Figure, Machine, Outcome  # noqa: E402

BUDGET = 460.0  # seconds for all steps, so that the whole stays under eight minutes
_BASE = ("numpy", "scipy", "numba", "cv2", "sklearn", "PIL", "safetensors")
_DRAWN = ("gsplat",)  # on a GPU; a CPU has kernels of its own
_PYTEST = ("pytest", "pytest_timeout", "hypothesis", "zmq")
_DIFFUSION = ("diffusers", "transformers", "peft")


@dataclass(frozen=True)
class Step:
    """One thing to check."""

    name: str
    title: str
    work: Callable[[Machine], list[Figure]]
    packages: tuple[str, ...] = _BASE
    seconds: float = 90.0  # after which it is given up


STEPS = (
    Step("matrices", "The card's practical peak", networks.matrices, (), 30),
    Step("rasteriser", "gsplat, CPU kernels and oracle", splats.rasteriser, _BASE + _DRAWN),
    Step("tests", "The tests that need CUDA", splats.cuda_tests, (*_PYTEST, *_BASE, *_DRAWN), 60),
    Step("lorm", "LHM-500M-HF", networks.lorm),
    Step("people", "Multi-HMR", networks.people),
    Step("turbo", "SD-Turbo as a refiner", networks.turbo, _BASE + _DIFFUSION),
    Step("distil", "Distillation of a cluster", splats.distillation, _BASE + _DRAWN),
    Step("train-refiner", "Training a refiner", networks.train_refiner, _BASE + _DIFFUSION),
    Step("train-lorm", "Training LORM", networks.train_lorm, (*_BASE, *_DRAWN, "peft")),
)


def main() -> int:
    """Runs the steps and writes the report; 0 where none failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "out/gpu")
    parser.add_argument("--dry-run", action="store_true", help="small sizes on the CPU")
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS], default=[])
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.dry_run:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what chooses a device by itself takes the CPU
    if not given.dry_run and not torch.cuda.is_available():
        print("torch sees no CUDA device here; --dry-run runs every step small.", file=sys.stderr)
        return 2
    machine = Machine("cpu" if given.dry_run else "cuda", given.dry_run)
    chosen = [step for step in STEPS if step.name in given.only or not given.only]
    if given.result:  # this is the process of one step
        given.result.write_text(json.dumps(run(chosen[0], machine).as_dict()))
        return 0
    outcomes, ends = [], time.monotonic() + BUDGET
    for step in chosen:
        outcome = run(step, machine) if given.dry_run else run_apart(step, ends)
        print(
            f"{outcome.state:8} {outcome.seconds:6.1f} s  {step.title}  {outcome.note}", flush=True
        )
        outcomes.append(outcome)
    facts = describe(machine)
    given.out.mkdir(parents=True, exist_ok=True)
    told = {"machine": facts, "steps": [outcome.as_dict() for outcome in outcomes]}
    (given.out / "gpu_check.json").write_text(json.dumps(told, indent=1))
    (given.out / "gpu_check.md").write_text(markdown(facts, outcomes))
    print(given.out / "gpu_check.md")
    return int(any(outcome.state in ("failed", "stopped") for outcome in outcomes))


def run(step: Step, machine: Machine) -> Outcome:
    """One step, here."""
    title = f"{step.title} (small)" if machine.small else step.title
    wanted = [name for name in step.packages if machine.device == "cuda" or name not in _DRAWN]
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        note = f"lacks {', '.join(missing)}; install them to have this step"
        return Outcome(step.name, title, "skipped", note=note)
    started = time.perf_counter()
    outcome = Outcome(step.name, title, "ok")
    try:
        outcome.figures = step.work(machine)
        wrong = [figure.what for figure in outcome.figures if figure.good is False]
        if wrong:
            outcome.state, outcome.note = "failed", "not as wanted: " + "; ".join(wrong)
    except Exception as error:  # noqa: BLE001  whatever it is, it belongs into the report
        said = " ".join(str(error).split())[:300]
        outcome.state, outcome.note = "failed", f"{type(error).__name__}: {said}"
    outcome.seconds = time.perf_counter() - started
    return outcome


def run_apart(step: Step, ends: float) -> Outcome:
    """One step in a process of its own, given up after its time or that of all."""
    seconds = min(step.seconds, ends - time.monotonic())
    if seconds <= 0:
        return Outcome(step.name, step.title, "stopped", note="no time was left for it")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        words = [sys.executable, __file__, "--only", step.name, "--result", str(result)]
        try:
            done = subprocess.run(words, timeout=seconds, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            note = f"given up after {seconds:.0f} s"
            return Outcome(step.name, step.title, "stopped", seconds, note)
        if result.is_file():
            return Outcome.from_dict(json.loads(result.read_text()))
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
        spent = time.monotonic() - started
        return Outcome(step.name, step.title, "failed", spent, f"ended by itself: {last}")


def describe(machine: Machine) -> dict[str, str]:
    """What ran, for the head of the report."""
    facts = {"device": "CPU, a dry run: no figure here says anything about a GPU"}
    if machine.device == "cuda":
        about = torch.cuda.get_device_properties(0)
        size = f"{about.total_memory / 2**30:.0f} GiB"
        facts = {
            "device": f"{about.name}, {size}, compute capability {about.major}.{about.minor}",
            "CUDA of torch": str(torch.version.cuda),
        }
    facts |= {"torch": torch.__version__, "Python": platform.python_version()}
    facts["cores"] = str(os.cpu_count())
    names = sorted({name for step in STEPS for name in step.packages})
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    for name in ("gsplat", *_DIFFUSION):
        if name not in missing:
            facts[name] = importlib.metadata.version(name)
    facts["missing packages"] = ", ".join(missing) or "none"
    return facts


def markdown(facts: dict[str, str], outcomes: list[Outcome]) -> str:
    """The report."""
    lines = ["# GPU check", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    lines += ["| step | state | seconds | |", "|---|---|---|---|"]
    lines += [f"| {o.title} | {o.state} | {o.seconds:.1f} | {o.note} |" for o in outcomes]
    for outcome in outcomes:
        if outcome.figures:
            lines += ["", f"## {outcome.title}", "", "| | value | wanted |", "|---|---|---|"]
            lines += [_line(figure) for figure in outcome.figures]
    return "\n".join(lines) + "\n"


def _line(figure: Figure) -> str:
    mark = {True: " (yes)", False: " (NO)", None: ""}[figure.good]
    value = f"{figure.value:.4g} {figure.unit}".strip()
    return f"| {figure.what} | {value} | {figure.wanted}{mark} |"


if __name__ == "__main__":
    sys.exit(main())
