# SPDX-License-Identifier: GPL-3.0-or-later
"""How long people take to import, to pose and to save in Blender.

usage: python benchmarks/blender_import.py [PEOPLE] [GAUSSIANS]   (5 people of 40000 by default)

Run it with a Python that has bpy; prints one line per measurement.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / name) for name in ("addon", "shared", "tests")]

import bpy  # noqa: E402
from _support.blender.blender_people import make_avatar, make_camera, write_scene  # noqa: E402
from crowdgaussian_addon.scene.importer import import_scene  # noqa: E402
from crowdgaussian_addon.scene.rig.armature import set_pose  # noqa: E402
from crowdgaussian_addon.scripting.previews import save_blend, start_empty_file  # noqa: E402

FRAMES = 12


def main(people: int = 5, gaussians: int = 40_000) -> None:
    print(f"Blender {bpy.app.version_string}, {people} people of {gaussians} Gaussians")
    avatars = [make_avatar(gaussians, seed=seed) for seed in range(people)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_scene(Path(scratch) / "out", avatars, make_camera())
        start_empty_file()
        result = timed("import with rigs, weights and keys", lambda: import_scene(folder))
        timed("first evaluation", bpy.context.view_layer.update)
        for person, avatar in zip(result.people, avatars):
            set_pose(person.rig, avatar.pose * 0.5, avatar.transl, frame=1 + FRAMES)
        seconds = [play(frame) for frame in range(2, 2 + FRAMES)]
        print(f"{'frame_set, median':40s} {1000 * statistics.median(seconds):8.1f} ms")
        target = Path(scratch) / "crowd.blend"
        timed("save", lambda: save_blend(target))
        print(f"{'file size':40s} {target.stat().st_size / 2**20:8.1f} MiB")


def timed(label: str, work):
    """Run once, print the time on the clock and on all cores, return the result."""
    start, used = time.perf_counter(), time.process_time()
    result = work()
    clock, cores = time.perf_counter() - start, time.process_time() - used
    print(f"{label:40s} {clock:8.2f} s   (processor time {cores:.2f} s)")
    return result


def play(frame: int) -> float:
    """Seconds to show one frame."""
    start = time.perf_counter()
    bpy.context.scene.frame_set(frame)
    return time.perf_counter() - start


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
