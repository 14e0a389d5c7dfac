# SPDX-License-Identifier: Apache-2.0
"""Runs inside a real Blender window: opens one sub-panel after the other, with people in the scene.

    blender --factory-startup --python panel_driver.py -- ADDON.zip SCENE OUT

Pictures of the whole screen go to OUT/*.xwd, and where the sidebar is on it to OUT/places.json.
"""

import json
import subprocess
import sys
import traceback
from pathlib import Path

import bpy

ZIP, SCENE, _out = sys.argv[sys.argv.index("--") + 1 :]
OUT = Path(_out)
MODULE = "bl_ext.user_default.crowdgaussian"
FAMILIES = ("reconstruct", "people", "layout", "motion", "display", "export")
SETTLE = 1.2  # seconds until a changed panel is on the screen
DRAWN = 8.0  # seconds until the splats are in colour, without a graphics card
PLACES: dict[str, list[int]] = {}


def main():
    bpy.ops.extensions.package_install_files(
        filepath=ZIP, repo="user_default", enable_on_install=True
    )
    bpy.context.preferences.view.show_splash = False
    bpy.context.preferences.view.show_statusbar_stats = False
    steps = script()
    bpy.app.timers.register(lambda: advance(steps), first_interval=1.0)


def advance(steps):
    """One step of the script -> seconds until the next; the end of it closes Blender."""
    try:
        return next(steps)
    except StopIteration:
        pass
    except Exception:  # noqa: BLE001  the caller reads it
        (OUT / "error.txt").write_text(traceback.format_exc())
    (OUT / "places.json").write_text(json.dumps(PLACES))
    bpy.ops.wm.quit_blender()


def script():
    """What is seen; each yield lets Blender draw."""
    for name in ("Cube", "Light", "Camera"):
        bpy.data.objects.remove(bpy.data.objects[name])
    area = viewport()
    area.spaces.active.show_region_ui = True
    with bpy.context.temp_override(window=window(), area=area):
        bpy.ops.screen.screen_full_area(use_hide_panels=False)
    yield SETTLE
    viewport().spaces.active.show_region_ui = True
    yield SETTLE
    region("UI").active_panel_category = "Crowd"
    yield from opened("empty", "people")
    press("import_scene", directory=SCENE)
    look_through_camera()
    yield SETTLE
    for family in FAMILIES:
        yield from opened(family, family)
    select_first()
    yield from opened("one_selected", "people")
    press("add_ik")
    yield SETTLE
    yield from opened("with_ik", "people")
    yield from opened("one_display", "display")
    press("first_look", action="SHOW")
    yield DRAWN
    picture("window")


def opened(name, family):
    """All panels closed but one, as a user would have it."""
    wanted = {"people": ("people", "corrections")}.get(family, (family,))
    for cls in panels():
        bpy.utils.unregister_class(cls)
    for cls in sorted(panels(), key=lambda cls: bool(getattr(cls, "bl_parent_id", ""))):
        word = cls.__name__.rsplit("_", 1)[1]
        cls.bl_idname = f"{cls.__name__}_{name}"
        if getattr(cls, "bl_parent_id", ""):
            cls.bl_parent_id = f"CROWDGAUSSIAN_PT_people_{name}"
        cls.bl_options = set() if word in wanted else {"DEFAULT_CLOSED"}
        bpy.utils.register_class(cls)
    region("UI").tag_redraw()
    yield SETTLE
    region("UI").tag_redraw()
    yield SETTLE
    picture(name)


def panels():
    """In the order of registration."""
    module = sys.modules[f"{MODULE}.ui"]
    return [cls for cls in module._CLASSES if issubclass(cls, bpy.types.Panel)]


def select_first():
    bpy.ops.object.select_all(action="DESELECT")
    press("select_person", person=1)


def look_through_camera():
    """As the photo was taken."""
    space = viewport().spaces.active
    space.region_3d.view_perspective = "CAMERA"
    space.overlay.show_overlays = False
    with bpy.context.temp_override(window=window(), area=viewport(), region=region("WINDOW")):
        bpy.ops.view3d.view_center_camera()
    space.region_3d.view_camera_offset[0] += 0.09  # the sidebar covers the right of the view


def press(name, **properties):
    """A button of the panel."""
    with bpy.context.temp_override(window=window(), area=viewport(), region=region("WINDOW")):
        getattr(bpy.ops.crowdgaussian, name)(**properties)


def window():
    return bpy.context.window_manager.windows[0]


def viewport():
    return next(a for a in window().screen.areas if a.type == "VIEW_3D")


def region(kind):
    return next(r for r in viewport().regions if r.type == kind)


def picture(name):
    """What X shows: Blender's own screenshot is black without a graphics card."""
    subprocess.run(["xwd", "-root", "-silent", "-out", str(OUT / f"{name}.xwd")], check=True)
    sidebar = region("UI")
    PLACES[name] = [sidebar.x, sidebar.y, sidebar.width, sidebar.height]


main()
