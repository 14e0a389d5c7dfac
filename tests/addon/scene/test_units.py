# SPDX-License-Identifier: Apache-2.0
"""A scene in centimetres shows and hands on the same people as one in metres."""

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, write_scene
from _support.made_up_motion import cmu_walk
from crowdgaussian_addon.scene.export.splats import cast_person, cast_static, centres_in_world
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.layout.transform import place_of, posed_points
from crowdgaussian_addon.scene.people import all_people, read_pose, world_scale
from crowdgaussian_addon.scene.render.images import read_picture
from crowdgaussian_shared.scene.folder import SceneFolder

OPS = bpy.ops.crowdgaussian
FEET = 0.3048  # metres


def crowd_in(folder, unit):
    """Two people in a scene of such units, who walk."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    settings = bpy.context.scene.unit_settings
    settings.system, settings.scale_length = "METRIC", unit
    import_scene(folder)
    bpy.context.scene.render.fps = 30
    bpy.context.view_layer.update()
    return all_people(bpy.context.scene)


def seen(tmp_path, name):
    """What a small render of the photo's camera shows."""
    scene = bpy.context.scene
    scene.render.resolution_percentage, scene.cycles.samples = 40, 1
    scene.render.filepath = str(tmp_path / name)
    bpy.ops.render.render(write_still=True)
    return read_picture(tmp_path / name)


def facts(people, tmp_path, unit):
    """What must be the same in metres."""
    found = {
        "poses": [read_pose(p.rig) for p in people],
        "sizes": [world_scale(p.rig) for p in people],
    }
    found["splats"] = [cast_person(p).posed().means for p in people]
    found["places"] = [unit * place_of(p) for p in people]
    found["centres"] = [unit * centres_in_world(p)[::9] for p in people]
    found["bodies"] = [unit * posed_points(p) for p in people]
    OPS.export_scene(filepath=str(tmp_path / f"scene{unit}"))
    back = SceneFolder.open(tmp_path / f"scene{unit}")
    found["camera"] = [back.info.camera.to_camera().viewmat]
    found["exported"] = [back.read_avatar(0).transl, back.read_avatar(0).rest_joints]
    for start in ("PERSON", "FILE"):
        OPS.apply_motion(filepath=str(tmp_path / "walk.bvh"), start=start, layer=False)
        bpy.context.scene.frame_set(20)
        found[start] = [read_pose(p.rig) for p in people]
    people[0].rig.location.x += 1 / unit
    OPS.photo_pose(back=True)
    found["back"] = [read_pose(p.rig) for p in people]
    return found


@pytest.mark.parametrize("unit", [0.01, FEET])
def test_people_cameras_and_motions_have_the_size_of_the_scene(tmp_path, unit):
    crowdgaussian_addon.register()
    try:
        (tmp_path / "walk.bvh").write_text(cmu_walk(seconds=1.0)[0])
        avatars = [make_avatar(120, seed=seed) for seed in (0, 1)]
        folder = write_scene(tmp_path / "out", avatars, make_camera())
        people = crowd_in(folder, 1.0)
        picture, wanted = seen(tmp_path, "metres.png"), facts(people, tmp_path, 1.0)
        people = crowd_in(folder, unit)
        height = np.ptp(posed_points(people[0])[:, 2])
        assert 1.3 < height * unit < 2.2, "people are people's size in the scene's units"
        other, got = seen(tmp_path, "units.png"), facts(people, tmp_path, unit)
    finally:
        crowdgaussian_addon.unregister()
    assert (picture[..., 3] > 0).mean() > 0.02
    assert np.abs(picture - other).mean() < 1e-3
    for name, values in wanted.items():
        for a, b in zip(values, got[name], strict=True):
            for x, y in zip(*((v if isinstance(v, tuple) else (v,)) for v in (a, b)), strict=True):
                np.testing.assert_allclose(y, x, atol=2e-4, err_msg=name)


def test_copies_and_splats_of_files_are_metres_in_centimetres(tmp_path):
    crowdgaussian_addon.register()
    try:
        folder = write_scene(tmp_path / "out", [make_avatar(120)], make_camera())
        (person,) = crowd_in(folder, 0.01)
        OPS.export_splats(filepath=str(tmp_path / "a.ply"))
        person.rig.select_set(True)
        OPS.duplicate_person(offset=(0.7, 0, 0))
        bpy.context.view_layer.update()
        first, second = all_people(bpy.context.scene)
        apart = place_of(second) - place_of(first)
        np.testing.assert_allclose(apart, (70, 0, 0)[: len(apart)], atol=1e-3)
        OPS.import_splats(filepath=str(tmp_path / "a.ply"))
        (obj,) = bpy.context.selected_objects
        bpy.context.view_layer.update()
        wanted = centres_in_world(first)
        got = [obj.matrix_world @ obj.data.vertices[4 * k].co for k in range(len(wanted))]
        np.testing.assert_allclose(got, wanted, atol=1e-2)  # centimetres
        means = cast_static(obj).posed().means
        np.testing.assert_allclose(means, cast_person(first).posed().means, atol=1e-4)
    finally:
        crowdgaussian_addon.unregister()
