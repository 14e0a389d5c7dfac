# SPDX-License-Identifier: Apache-2.0
"""Runs inside a real Blender window: uses the panel's buttons and takes pictures of the screen.

    blender --factory-startup --python window_driver.py -- ZIP PLAN.json OUT

PLAN has the server's address, the photo, the shading and how long it takes; OUT/diary.json
says what was seen.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import bpy

ZIP, PLAN, OUT = sys.argv[sys.argv.index("--") + 1 :]
PLAN, OUT = json.loads(Path(PLAN).read_text()), Path(OUT)
MODULE = "bl_ext.user_default.crowdgaussian"
LIMIT = 1500.0  # seconds for everything
DIARY = {"blender": bpy.app.version_string, "progress": [], "people": [], "pictures": []}
STARTED = time.monotonic()


def main():
    bpy.ops.extensions.package_install_files(
        filepath=ZIP, repo="user_default", enable_on_install=True
    )
    bpy.context.preferences.view.show_splash = False
    preferences = bpy.context.preferences.addons[MODULE].preferences
    preferences.place, preferences.address = "THERE", PLAN["address"]
    steps = script()
    bpy.app.timers.register(lambda: advance(steps), first_interval=1.0)


def advance(steps):
    """One step of the script -> seconds until the next; the end of it closes Blender."""
    try:
        if time.monotonic() > STARTED + LIMIT:
            raise TimeoutError("the window test took too long")
        return next(steps)
    except StopIteration:
        DIARY["finished"] = True
    except Exception as error:  # noqa: BLE001  the test reads it
        DIARY["error"] = repr(error)
    (OUT / "diary.json").write_text(json.dumps(DIARY, indent=1))
    bpy.ops.wm.quit_blender()


def script():
    """What a user does; each yield lets Blender draw and its timers run."""
    area = open_sidebar()
    yield 0.5
    region = next(r for r in area.regions if r.type == "UI")
    region.active_panel_category = "Crowd"
    bpy.context.scene.crowdgaussian.photo = PLAN["photo"]
    press(area, "connect")
    yield 2.0
    picture("panel_ready")
    press(area, "reconstruct")
    yield from watch(newest())
    yield PLAN["settle"] / 4
    picture("panel_done")
    DIARY["undo"] = undo(area)
    area.spaces.active.shading.type = "SOLID"  # so that drawing takes no time from the rest
    yield 0.5
    bpy.context.scene.crowdgaussian.quality = "DRAFT"  # or the server knows the result already
    press(area, "reconstruct")
    row = newest()
    yield from until(lambda: row.people_done > 0)
    press(area, "cancel", job=row.job)
    pressed = time.monotonic()
    yield from until(lambda: row.finished)
    DIARY["cancelled"] = {
        "state": row.state,
        "people_done": row.people_done,
        "seconds": time.monotonic() - pressed,
    }
    area.spaces.active.shading.type = PLAN["shading"]
    yield PLAN["settle"] / 4
    picture("panel_cancelled")
    bpy.context.scene.crowdgaussian.photo = "/there/is/no/photo.jpg"
    try:
        press(area, "reconstruct")
    except RuntimeError as error:
        DIARY["refused"] = str(error)
    yield 0.5
    picture("panel_error")


def watch(row):
    """Writes down how the row and the scene change until the job has ended."""
    taken = False
    while row.active or row.people_done > len(row.imported):
        DIARY["progress"].append(round(row.progress, 4))
        DIARY["people"].append(people_in_scene())
        if not taken and people_in_scene():
            taken = True
            look_at_crowd(open_sidebar())
            yield PLAN["settle"]
            picture("panel_running")
        yield 0.2
    DIARY["people"].append(people_in_scene())
    DIARY["state"], DIARY["words"] = row.state, row.error


def until(ready):
    while not ready():
        yield 0.1


def open_sidebar():
    area = next(
        a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "VIEW_3D"
    )
    area.spaces.active.show_region_ui = True
    return area


def press(area, name, **properties):
    """A button of the panel."""
    region = next(r for r in area.regions if r.type == "WINDOW")
    window = bpy.context.window_manager.windows[0]
    with bpy.context.temp_override(window=window, area=area, region=region):
        getattr(bpy.ops.crowdgaussian, name)("INVOKE_DEFAULT", **properties)


def undo(area):
    """How many people are there before and after Ctrl-Z, and after Ctrl-Shift-Z."""
    counts = [people_in_scene()]
    window = bpy.context.window_manager.windows[0]
    for step in (bpy.ops.ed.undo, bpy.ops.ed.redo):
        with bpy.context.temp_override(window=window, area=area):
            step()
        counts.append(people_in_scene())
    return counts


def newest():
    return sys.modules[f"{MODULE}.ops.state"].session().rows[0]


def people_in_scene():
    return sum(c.name.startswith("Person") for c in bpy.data.collections)


def look_at_crowd(area):
    """Through the photo's camera, as the splats are."""
    space = area.spaces.active
    for name in ("Cube", "Light", "Camera"):
        if name in bpy.data.objects:
            bpy.data.objects.remove(bpy.data.objects[name])
    space.region_3d.view_perspective = "CAMERA"
    space.shading.type = PLAN["shading"]
    space.overlay.show_overlays = False
    region = next(r for r in area.regions if r.type == "WINDOW")
    with bpy.context.temp_override(
        window=bpy.context.window_manager.windows[0], area=area, region=region
    ):
        bpy.ops.view3d.view_center_camera()
    space.region_3d.view_camera_zoom -= 7
    space.region_3d.view_camera_offset[0] += 0.09  # the sidebar covers the right of the view


def picture(name):
    """What X shows: Blender's own screenshot is black without a graphics card."""
    path = OUT / f"{name}.xwd"
    subprocess.run(["xwd", "-root", "-silent", "-out", str(path)], check=True)
    DIARY["pictures"].append(path.name)


main()
