# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast animated people play in Blender, at every level, and how large a saved crowd is.

usage: python benchmarks/blender_frames.py [PEOPLE] [GAUSSIANS]   (5 people of 40000 by default)

Run it with a Python that has bpy, on an idle machine with two cores: a busy machine shows in the
clock but hardly in the processor time, and both are printed. The people are open bodies with a
keyed pose for all 55 bones.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / name) for name in ("addon", "shared", "tests")]

import bpy  # noqa: E402
import numpy as np  # noqa: E402
from _support.blender.blender_people import make_camera, write_scene  # noqa: E402
from _support.blender.open_body_people import open_body_avatar  # noqa: E402
from crowdgaussian_addon.scene.importer import import_scene  # noqa: E402
from crowdgaussian_addon.scene.people import all_people  # noqa: E402
from crowdgaussian_addon.scene.render.display import Level, set_level  # noqa: E402
from crowdgaussian_addon.scene.render.settings import set_engine  # noqa: E402
from crowdgaussian_addon.scene.rig.armature import set_pose  # noqa: E402
from crowdgaussian_addon.scripting.previews import save_blend, start_empty_file  # noqa: E402

FRAMES = 20
FULL_LIMIT = 0.040 if bpy.app.version >= (5, 2) else 0.180  # seconds for 5 people of 40000
CROWD_LIMIT = 0.200 if bpy.app.version >= (5, 2) else 0.720  # seconds for 20
CROWD = 20  # people
SAVED = 6  # people
SAVED_LIMIT = 25.0  # MB for 6 people of 37500, what the preset open makes of a person
SAVED_GAUSSIANS = 37_500
BODY_LIMIT = 0.020
IMPORT_LIMIT = 2.0


def main(people: int = 5, gaussians: int = 40_000) -> None:
    print(f"Blender {bpy.app.version_string}, {people} people of {gaussians} Gaussians, "
          f"median of {FRAMES} frames")  # fmt: skip
    print(f"{'':34s} {'clock':>9s} {'processor':>10s} {'promised':>9s} {'ratio':>6s}")
    measure_degree(people, gaussians, 0, IMPORT_LIMIT)
    limits: dict[Level, float | None] = {"FULL": FULL_LIMIT, "REDUCED": None, "BODY": BODY_LIMIT}
    for level, limit in limits.items():
        show(level)
        row(f"frame_set, {level.lower()} display", *play(), limit)
    show("FULL")
    set_engine(bpy.context.scene, "EEVEE")
    row("frame_set, full, sorted for EEVEE", *play())
    measure_degree(people, gaussians, 3)
    row("frame_set, full, harmonics degree 3", *play())
    measure_degree(CROWD, gaussians, 0)
    row(f"frame_set, full, {CROWD} people", *play(), CROWD_LIMIT)
    measure_file()


def measure_degree(people: int, gaussians: int, degree: int, limit: float | None = None) -> None:
    """Import a crowd and key a second pose."""
    avatars = [open_body_avatar(gaussians, degree, seed) for seed in range(people)]
    places = [np.array([0.7 * k - 1.4, 0, 0], np.float32) for k in range(people)]
    avatars = [a.with_params(transl=a.transl + place) for a, place in zip(avatars, places)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_scene(Path(scratch) / "out", avatars, make_camera())
        start_empty_file()
        start, used = time.perf_counter(), time.process_time()
        result = import_scene(folder)
        taken = time.perf_counter() - start, time.process_time() - used
    row(f"import, harmonics degree {degree}", *taken, limit)
    for person, avatar in zip(result.people, avatars):
        set_pose(person.rig, avatar.pose * 0.5, avatar.transl, frame=2 + FRAMES)


def measure_file() -> None:
    """A saved crowd, as the command line saves it."""
    measure_degree(SAVED, SAVED_GAUSSIANS, 0)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "crowd.blend"
        save_blend(path)
        size = path.stat().st_size / 1e6
    print(f"{f'saved, {SAVED} people':34s} {size:6.1f} MB {'':11s} {SAVED_LIMIT:8.0f} "
          f"{size / SAVED_LIMIT:6.2f}")  # fmt: skip


def show(level: Level) -> None:
    """Everybody at one display level, in the viewport."""
    for person in all_people(bpy.context.scene):
        set_level(person, level, ("VIEWPORT",))


def play() -> tuple[float, float]:
    """Median seconds for a frame, on the clock and on all cores, after two frames to warm up."""
    clock, cores = [], []
    for frame in range(1, FRAMES + 3):
        start, used = time.perf_counter(), time.process_time()
        bpy.context.scene.frame_set(frame)
        clock.append(time.perf_counter() - start)
        cores.append(time.process_time() - used)
    return statistics.median(clock[2:]), statistics.median(cores[2:])


def row(label: str, clock: float, cores: float, limit: float | None = None) -> None:
    """One line of the table, in milliseconds."""
    end = f"{1000 * limit:9.0f} {clock / limit:6.2f}" if limit else ""
    print(f"{label:34s} {1000 * clock:9.1f} {1000 * cores:10.1f} {end}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
