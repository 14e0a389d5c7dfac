# SPDX-License-Identifier: GPL-3.0-or-later
"""What the export tests share: a registered add-on, a crowd, and a record of the whole scene."""

import bpy
import numpy as np
from crowdgaussian_addon.scene.importer import import_scene


def turned_and_stretched(rig) -> None:
    """Stand a rig somewhere else, leaning, and larger in one direction than in another."""
    rig.location = (0.7, -0.4, 0.2)
    rig.rotation_euler = (0.2, -0.35, 1.1)
    rig.scale = (1.3, 0.8, 1.1)
    bpy.context.view_layer.update()


def start(folder):
    """A fresh file with the crowd of a scene folder."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return import_scene(folder)


class Record(dict):
    """What was seen; two are equal when their matrices are, up to rounding."""

    def __eq__(self, other) -> bool:
        names = "worlds", "poses"
        matrices = [np.array(record[name]) for record in (self, other) for name in names]
        plain = [{k: v for k, v in record.items() if k not in names} for record in (self, other)]
        return plain[0] == plain[1] and all(
            a.shape == b.shape and np.allclose(a, b, atol=1e-5)
            for a, b in zip(matrices[:2], matrices[2:])
        )


def record() -> Record:
    """Everything an export could change by accident."""
    bpy.context.view_layer.update()
    scene = bpy.context.scene
    return Record({
        "frame": (scene.frame_current, scene.frame_subframe),
        "scenes": [s.name for s in bpy.data.scenes],
        "window": bpy.context.window_manager.windows[0].scene.name,
        "data": {name: [item.name for item in getattr(bpy.data, name)]
                 for name in ("objects", "meshes", "armatures", "actions", "collections")},
        "selected": [o.name for o in bpy.context.view_layer.objects if o.select_get()],
        "hidden": [o.name for o in bpy.context.view_layer.objects if o.hide_get()],
        "worlds": [np.array(o.matrix_world) for o in scene.objects],
        "poses": [np.array(b.matrix) for o in scene.objects if o.type == "ARMATURE"
                  for b in o.pose.bones],
        "keys": {a.name: tuple(a.frame_range) for a in bpy.data.actions},
    })  # fmt: skip


def refused(operator, **options) -> str:
    """The one sentence with which an operator refuses; the scene must stay as it was."""
    before = record()
    try:
        operator(**options)
    except RuntimeError as error:
        lines = {line.removeprefix("Error: ") for line in str(error).strip().splitlines()}
        assert len(lines) == 1, error
        assert record() == before
        return lines.pop()
    raise AssertionError("it was not refused")
