# SPDX-License-Identifier: GPL-3.0-or-later
"""What scattered copies cost: memory of 5 people, and of 5 people with 100 copies of them.

usage: python benchmarks/blender_scatter.py [COPIES] [VARIANTS] [GAUSSIANS]   (100, 2, 40000)

Run it with a Python that has bpy. Memory is what the process holds beyond an empty Blender, after
the scene was evaluated and the frame changed; exits with 1 when the ratio is 1.5 or more.
"""

import gc
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / name) for name in ("addon", "shared", "tests")]

import bpy  # noqa: E402
import numpy as np  # noqa: E402
from _support.blender.blender_people import make_avatar, make_camera, write_scene  # noqa: E402
from crowdgaussian_addon.scene.importer import import_scene  # noqa: E402
from crowdgaussian_addon.scene.layout.scatter import (  # noqa: E402
    ScatterOptions,
    places_on_surface,
    scatter,
)
from crowdgaussian_addon.scene.people import all_people  # noqa: E402
from crowdgaussian_addon.scene.rig.armature import set_pose  # noqa: E402

LIMIT = 1.5
PEOPLE = 5


def main(copies: int = 100, variants: int = 2, gaussians: int = 40_000) -> int:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "out"
        write_scene(folder, [make_avatar(gaussians, seed=s) for s in range(PEOPLE)], make_camera())
        empty = settled()
        crowd = import_scene(folder)
    animate(crowd.people)
    play()
    people = settled() - empty
    bpy.ops.mesh.primitive_plane_add(size=60)
    rng = np.random.default_rng(0)
    places = places_on_surface(bpy.context.object, copies, 0.5, rng)
    start = time.perf_counter()
    options = ScatterOptions(variants=variants)
    for _ in scatter(bpy.context.scene, all_people(bpy.context.scene), places, options):
        pass
    seconds = time.perf_counter() - start
    frame = play()
    both = settled() - empty
    shown = sum(
        i.is_instance and i.object.type == "MESH"
        for i in bpy.context.evaluated_depsgraph_get().object_instances
    )
    print(
        f"Blender {bpy.app.version_string}: {PEOPLE} people of {gaussians} Gaussians: "
        f"{people / 2**20:.0f} MiB"
    )
    print(
        f"with {len(places.points)} copies of {variants} variants each: {both / 2**20:.0f} MiB; "
        f"{shown} instances are shown"
    )
    print(f"scattered in {seconds:.2f} s; a frame of everything takes {1000 * frame:.0f} ms")
    print(f"ratio {both / people:.3f} (must be under {LIMIT})")
    return int(both >= LIMIT * people or shown != copies)


def animate(people) -> None:
    """Everybody moves, so that copies have a time to be ahead of."""
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, 40
    for person in people:
        pose = np.zeros((55, 3))
        set_pose(person.rig, pose, np.array([person.index, 1.0, -4.0]), frame=40)


def play() -> float:
    """Shows three frames -> seconds of the last one."""
    for frame in (1, 20, 21):
        start = time.perf_counter()
        bpy.context.scene.frame_set(frame)
    return time.perf_counter() - start


def settled() -> int:
    """Bytes of memory that this process holds."""
    gc.collect()
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("this benchmark needs Linux's /proc")


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
