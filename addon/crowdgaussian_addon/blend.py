# SPDX-License-Identifier: GPL-3.0-or-later
"""Scene folder -> crowd.blend and preview pictures, in the bpy module or in a whole Blender.

    python -m crowdgaussian_addon.blend OUT [--save FILE] [--previews] [--samples N] [--size PX]
    blender --background --factory-startup --python addon/crowdgaussian_addon/blend.py -- OUT ...

Prints one line of JSON per step: stage, fraction, message; the last one names the files too. What
went wrong is one sentence on stderr, with exit code 2.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

if not __package__:  # Blender runs this file as a script: find the two packages beside it
    _root = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(_root / "addon"), str(_root / "shared")]
    __package__ = "crowdgaussian_addon"
    import crowdgaussian_addon  # noqa: F401  relative imports need the package

from crowdgaussian_shared.errors import CrowdGaussianError, InputError  # noqa: E402
from crowdgaussian_shared.scene.folder import SceneFolder  # noqa: E402

from .scene.importer import import_scene  # noqa: E402
from .scripting.previews import PreviewOptions, render_previews, save_blend, start_empty_file  # noqa: E402  # noqa: E402

STAGE = "blend"
_IMPORTED, _SAVED = 0.15, 0.2  # fractions of the whole

Report = Callable[..., None]


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with _json_lines() as report:
            _blend(options, report)
    except CrowdGaussianError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="blend", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="scene folder")
    parser.add_argument("--save", type=Path, metavar="FILE", help="default: OUT/crowd.blend")
    parser.add_argument("--previews", action="store_true", help="render OUT/previews/*.png")
    parser.add_argument("--samples", type=int, default=1, help="of the splats, one is exact")
    parser.add_argument("--size", type=int, default=512, metavar="PX", help="preview width")
    return parser


def _blend(options: argparse.Namespace, report: Report) -> None:
    folder = SceneFolder.open(options.out)
    start_empty_file()
    report(0.0, "Importing")
    crowd = import_scene(folder)
    for sentence in crowd.skipped:
        report(_IMPORTED, sentence)
    if not crowd.people:
        raise InputError(
            f"{options.out} has no finished person; reconstruct the photo to the end first."
        )
    report(_IMPORTED, "Saving")
    blend_file = options.save or options.out / "crowd.blend"
    save_blend(blend_file)
    files = [blend_file]
    report(_SAVED, f"Saved {blend_file}")
    if options.previews:
        sizes = PreviewOptions(max(16, options.size), max(1, options.samples))

        def step(title: str, done: int, total: int) -> None:
            report(_SAVED + (1 - _SAVED) * done / total, f"Preview: {title}")

        files += render_previews(folder, crowd, sizes, step)
    report(1.0, "Done", files=[str(path) for path in files])


@contextmanager
def _json_lines() -> Iterator[Report]:
    """Keep stdout for JSON: what Blender itself prints there while it works is dropped."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.close(sink)

        def report(fraction: float, message: str, **more: object) -> None:
            line = {"stage": STAGE, "fraction": round(fraction, 3), "message": message, **more}
            print(json.dumps(line), file=stream, flush=True)

        try:
            yield report
        finally:
            sys.stdout.flush()
            os.dup2(stream.fileno(), 1)


if __name__ == "__main__":
    given = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    status = main(given)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the bpy module of 4.5 can wait for ever for its own threads at exit
