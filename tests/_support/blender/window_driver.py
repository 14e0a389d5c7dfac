# SPDX-License-Identifier: Apache-2.0
"""Runs inside a real Blender window: uses the panel's buttons and takes pictures of the screen.

    blender --factory-startup --python window_driver.py -- ZIP PLAN.json OUT

PLAN has the server's address, the photo, a motion and how long drawing takes; OUT/diary.json says
what was seen. `click` counts what a user presses between installing and seeing people.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import bpy
import numpy as np

ZIP, PLAN, OUT = sys.argv[sys.argv.index("--") + 1 :]
PLAN, OUT = json.loads(Path(PLAN).read_text()), Path(OUT)
MODULE = "bl_ext.user_default.crowdgaussian"
LIMIT = 1500.0  # seconds for everything
DIARY = {
    "blender": bpy.app.version_string,
    "progress": [],
    "people": [],
    "pictures": [],
    "clicks": 0,
}
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
    yield from first_look()
    area = open_sidebar()
    yield from direct(area)
    yield from brush(area)
    yield from own_shot(area)
    yield from break_off(area)


def first_look():
    """From the startup file to everybody in colour, and nothing touched by hand meanwhile."""
    click(4)  # Preferences, Get Extensions, Install from Disk, the zip
    area = open_sidebar()
    click()  # N
    yield 0.5
    region = next(r for r in area.regions if r.type == "UI")
    region.active_panel_category = "Crowd"
    click()
    bpy.context.scene.crowdgaussian.photo = PLAN["photo"]
    click(2)  # the folder, the photo
    press(area, "connect")
    yield 2.0
    picture("panel_ready")
    press(area, "reconstruct")
    click()
    yield from watch(newest())
    yield PLAN["settle"]
    picture("panel_done")
    DIARY["undo"] = undo(area)
    press(area, "first_look", action="KEEP")


def direct(area):
    """People are duplicated, deleted, set in motion and rendered."""
    press(area, "select_person", person=1)
    press(area, "duplicate_person")
    yield PLAN["settle"]
    picture("walk_duplicated")
    counts = [people_in_scene()]
    press(area, "delete_person")
    yield PLAN["settle"]
    counts.append(people_in_scene())
    DIARY["duplicated_deleted"] = counts
    bpy.ops.object.select_all(action="DESELECT")
    press(area, "apply_motion", filepath=PLAN["motion"])
    bpy.context.scene.frame_set(bpy.context.scene.frame_start + 20)
    yield PLAN["settle"]
    picture("walk_motion")
    DIARY["rendered"] = render("walk_rendered")


def brush(area):
    """A brush is set on a splat of somebody who walks, as posed at this frame."""
    press(area, "select_person", person=0)
    press(area, "paint_splats")
    yield PLAN["settle"]
    splats = bpy.context.active_object
    centres, before = posed(splats), colours(splats)
    place = centres[len(centres) // 2]
    bpy.context.tool_settings.vertex_paint.brush.color = (1.0, 0.0, 1.0)
    step = {"name": "", "location": place, "mouse": (0, 0), "mouse_event": (0, 0), "pressure": 1.0}
    step |= {"size": 25.0, "x_tilt": 0.0, "y_tilt": 0.0, "time": 0.0, "is_start": True}
    region = next(r for r in area.regions if r.type == "WINDOW")
    window = bpy.context.window_manager.windows[0]
    with bpy.context.temp_override(window=window, area=area, region=region):
        bpy.ops.paint.vertex_paint(stroke=[step])
    yield PLAN["settle"]
    picture("walk_painted")
    press(area, "paint_splats")
    changed = np.abs(colours(splats) - before).max(axis=1) > 0.01
    far = np.linalg.norm(centres[changed] - place, axis=1)
    DIARY["painted"] = {
        "splats": int(changed.sum()),
        "of": len(centres),
        "farthest": float(far.max(initial=0)),
        "mode": bpy.context.mode,
    }


def posed(splats):
    """Where each splat is now, in its object.  # [N, 3]"""
    mesh = splats.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    points = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.attributes["position"].data.foreach_get("vector", points)
    return points.reshape(-1, 4, 3).mean(axis=1)


def colours(splats):
    values = np.empty(4 * len(splats.data.polygons), np.float32)
    splats.data.attributes["splat_colour"].data.foreach_get("color", values)
    return values.reshape(-1, 4)[:, :3]


def own_shot(area):
    """The crowd comes into a shot with work in it, whose settings stay."""
    bpy.ops.scene.new(type="EMPTY")
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_monkey_add(location=(0, 6, 1))
    bpy.ops.object.light_add(type="SUN")
    bpy.ops.object.camera_add(location=(5, -6, 2.5), rotation=(1.4, 0, 0.65))
    scene.camera = bpy.context.object
    scene.render.engine, scene.render.resolution_x = "BLENDER_EEVEE", 400
    before = (scene.render.engine, scene.render.resolution_x, scene.camera.name)
    press(area, "import_scene", "EXEC_DEFAULT", directory=newest().folder)
    yield PLAN["settle"]
    picture("walk_own_shot")
    after = (scene.render.engine, scene.render.resolution_x, scene.camera.name)
    DIARY["own_shot"] = {"before": before, "after": after}
    bpy.ops.scene.delete()
    yield PLAN["settle"]


def break_off(area):
    """A second job is cancelled, and a photo that is not there refused."""
    area.spaces.active.shading.type = "SOLID"
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
    yield PLAN["settle"]
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
            taken, came = True, time.monotonic()
            yield PLAN["settle"]
            DIARY["first_look"] = seen(open_sidebar()) | {"seconds": time.monotonic() - came}
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


def click(times=1):
    """A user's hand."""
    DIARY["clicks"] += times


def press(area, name, call="INVOKE_DEFAULT", **properties):
    """A button of the panel."""
    region = next(r for r in area.regions if r.type == "WINDOW")
    window = bpy.context.window_manager.windows[0]
    with bpy.context.temp_override(window=window, area=area, region=region):
        getattr(bpy.ops.crowdgaussian, name)(call, **properties)


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


def seen(area):
    """How the viewport shows the scene."""
    space = area.spaces.active
    return {
        "through_camera": space.region_3d.view_perspective == "CAMERA",
        "camera": bpy.context.scene.camera.name,
        "shading": [space.shading.type, space.shading.color_type],
        "bones": space.overlay.show_overlays and space.overlay.show_bones,
        "grid": space.overlay.show_overlays and space.overlay.show_floor,
    }


def render(name):
    """The scene's own camera and engine, small -> mean and spread of the picture, 0..1."""
    scene = bpy.context.scene
    scene.render.resolution_percentage, scene.cycles.samples = PLAN["percent"], 16
    scene.render.filepath = str(OUT / f"{name}.png")
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(scene.render.filepath)
    pixels = np.array(image.pixels[:]).reshape(-1, 4)[:, :3]
    return {"engine": scene.render.engine, "mean": pixels.mean(), "spread": pixels.std()}


def picture(name):
    """What X shows: Blender's own screenshot is black without a graphics card."""
    path = OUT / f"{name}.xwd"
    subprocess.run(["xwd", "-root", "-silent", "-out", str(path)], check=True)
    DIARY["pictures"].append(path.name)


main()
