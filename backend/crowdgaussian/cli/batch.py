# SPDX-License-Identifier: Apache-2.0
"""Many photos: crowdgaussian batch PHOTOS... -o OUT, here, in shards, or on a Ray cluster."""

import argparse
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crowdgaussian_shared.errors import InputError, SettingError
from crowdgaussian_shared.formats.atomic import write_error

from ..core.progress import Progress, gpu_indices
from .options import add_out, add_setting_options, setting_changes

if TYPE_CHECKING:
    from ..batch.plan import Outcome, PhotoTask
    from ..pipeline.config import Config

FAILED = 1  # exit code when a photo failed
LIMIT = 3600.0  # seconds a photo; thirteen people take about ten minutes on two cores
SHOWN = 20  # failures named at the end; the manifest has all


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser("batch", help="many photos -> a scene folder each")
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTOS", help='photos, folders of them, or "patterns/**"'
    )
    add_out(parser, "folder of the scene folders and of batch.jsonl and batch.csv")
    add_setting_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace scenes in OUT")
    parser.add_argument("--retry-failed", action="store_true", help="try failed photos again")
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT,
        metavar="SECONDS",
        help="a photo that takes longer is stopped and has failed (%(default).0f)",
    )
    parser.add_argument(
        "--shard", default="1/1", metavar="I/N", help="only part I of N, from 1: for Slurm arrays"
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes (default: one a GPU, or one)"
    )
    parser.add_argument("--verbose", action="store_true", help="log details and tracebacks")
    parser.add_argument("--stages", help=argparse.SUPPRESS)
    _add_ray(parser)
    parser.set_defaults(run=_batch)


def _add_ray(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("on a Ray cluster (docs/scale.md)")
    group.add_argument(
        "--ray", metavar="ADDRESS", help="HOST:PORT, auto, or local for one of this computer"
    )
    group.add_argument(
        "--cpus", type=int, default=4, metavar="N", help="cores of a worker (%(default)s)"
    )
    group.add_argument(
        "--send-photos", action="store_true", help="to computers that do not see them"
    )


def _batch(arguments: argparse.Namespace) -> int:
    from ..batch.plan import Manifest, find_photos, plan, shard
    from ..pipeline.config import configured

    config = configured(arguments.preset, setting_changes(arguments))
    number, count = _part(arguments.shard)
    _check(arguments)
    out = arguments.out.absolute()
    found = find_photos(arguments.photos, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(out, error) from error
    manifest = Manifest(out, f"-{number}-of-{count}" if count > 1 else "")
    tasks = shard(plan(found, manifest.read().values()), number, count)
    run = _Run(manifest, _hash(config), arguments.retry_failed)
    left = run.left(out, tasks)
    print(f"{len(tasks)} photos, {len(tasks) - len(left)} of them passed over")
    try:
        if left:
            run.work_off(left, arguments)
    finally:
        if manifest.path.exists():
            manifest.write_table()
    return run.summary(tasks)


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise SettingError(f"'--shard {text}' is no part; write I/N with I from 1 to N.")
    return number, count


def _check(arguments: argparse.Namespace) -> None:
    if arguments.out.exists() and not arguments.out.is_dir():
        raise InputError(f"{arguments.out} is a file; give the name of a folder.")
    for name, low in (("limit", 1), ("workers", 0), ("cpus", 1)):
        if not getattr(arguments, name) >= low:
            raise SettingError(f"--{name} must be at least {low}.")


def _hash(config: "Config") -> str:
    """What tells two sets of settings apart."""
    import json

    from crowdgaussian_shared.scene.schema import hash_bytes

    return hash_bytes(json.dumps(config.flat(), sort_keys=True).encode())


class _Run:
    """One run of the command: which photos are left, what became of them, what the user is told.

    Args:
        manifest: of OUT.
        settings: their hash.
        retry_failed: try what failed again.
    """

    def __init__(self, manifest: Any, settings: str, retry_failed: bool) -> None:
        from .console import TimeLeft

        self._manifest = manifest
        self._settings = settings
        self._retry = retry_failed
        self._asked_to_stop = False
        self._total = self._ended = 0
        self._time_left = TimeLeft()

    def left(self, out: Path, tasks: list["PhotoTask"]) -> list["PhotoTask"]:
        """The photos that the manifest does not answer for."""
        known = self._manifest.read()
        return [
            task
            for task in tasks
            if task.folder not in known
            or not known[task.folder].counts(out, task, self._settings, self._retry)
        ]

    def work_off(self, tasks: list["PhotoTask"], arguments: argparse.Namespace) -> None:
        """Hands the photos to workers until all have ended, or until Ctrl-C."""
        from ..batch.plan import Queue

        self._total = len(tasks)
        pool = _pool(arguments, len(tasks))
        before = {n: signal.signal(n, self._interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            Queue(tasks, pool, self._tell, lambda: self._asked_to_stop).run()
        finally:
            pool.close()
            for signal_number, handler in before.items():
                signal.signal(signal_number, handler)

    def _interrupt(self, number: int, frame: Any) -> None:
        if self._asked_to_stop:
            raise KeyboardInterrupt
        self._asked_to_stop = True
        print("Stopping after this step; Ctrl-C again stops at once.", flush=True)

    def _tell(self, task: "PhotoTask", outcome: "Outcome", tries: int) -> None:
        """Keeps an end in the manifest, and says it in a line."""
        from ..batch.plan import Entry

        self._ended += 1
        known = None if outcome.worked else self._manifest.read().get(task.folder)
        if known is None or (known.state, known.settings) != (outcome.state, self._settings):
            self._manifest.add(
                Entry(
                    **_fields(outcome),
                    photo=task.photo,
                    folder=task.folder,
                    attempts=tries,
                    ended=time.time(),
                    stamp=task.stamp,
                    settings=self._settings,
                )
            )
        words = f"{outcome.built} of {outcome.people} people in {outcome.seconds:.0f} s"
        words = f"failed: {outcome.sentence}" if outcome.state == "failed" else words
        words = f"[{self._ended}/{self._total}] {task.folder}: {words}"
        step = Progress("photos", self._ended / self._total)
        left = self._time_left.words(step, time.monotonic())
        print(_printable(f"{words}; {left}" if left else words), flush=True)

    def summary(self, tasks: list["PhotoTask"]) -> int:
        """Counts, and failures by name -> the exit code."""
        known = self._manifest.read()
        entries = [known[task.folder] for task in tasks if task.folder in known]
        states = Counter(entry.state for entry in entries)
        failed = [entry for entry in entries if entry.state == "failed"]
        counts = [f"{states['done']} done", f"{states['partly']} with people who failed"]
        print(", ".join(counts if states["partly"] else counts[:1]) + f", {len(failed)} failed")
        for entry in failed[:SHOWN]:
            print(_printable(f"- {entry.photo}: {entry.sentence}"))
        if len(failed) > SHOWN:
            print(f"- and {len(failed) - SHOWN} more")
        print(self._manifest.table)
        return FAILED if failed else 0


def _fields(outcome: "Outcome") -> dict[str, Any]:
    names = ("state", "people", "built", "warnings", "seconds", "sentence", "host")
    return {name: getattr(outcome, name) for name in names}


def _printable(text: str) -> str:
    """A line for the terminal, whatever a file is called."""
    shown = os.fsencode(text).decode("utf-8", "replace")
    return "".join(sign if sign.isprintable() else "?" for sign in shown)


def _pool(arguments: argparse.Namespace, photos: int) -> Any:
    from ..batch.local import STAGES, LocalPool, Order

    order = Order(
        str(arguments.out.absolute()),
        arguments.preset,
        setting_changes(arguments),
        arguments.overwrite,
        arguments.stages or STAGES,
    )
    if arguments.ray is None:
        count = min(photos, arguments.workers or len(gpu_indices()) or 1)
        return LocalPool(order, count, arguments.limit, arguments.verbose)
    from ..batch.on_ray import RayOptions, RayPool

    most = min(photos, arguments.workers or photos)
    options = RayOptions(arguments.ray, arguments.cpus, most, arguments.send_photos)
    return RayPool(options, order, arguments.limit, arguments.verbose)
