# SPDX-License-Identifier: Apache-2.0
"""Posed centres, covariances and view-dependent colours in Blender equal the numpy reference."""

import bpy
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, random_pose, write_scene
from _support.blender.evaluated import check_splats
from _support.blender.open_body_people import open_body_avatar
from crowdgaussian_addon.scene.attributes import read_attribute
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.rig.armature import set_pose
from crowdgaussian_addon.scene.splats.material import COLOUR, SH_PREFIX
from crowdgaussian_addon.scene.splats.nodes.project import splat_node_groups
from crowdgaussian_shared.geometry.axes import convert_points
from crowdgaussian_shared.geometry.sh import eval_sh
from crowdgaussian_shared.geometry.skinning import pose_avatar

BODIES = {"open body": open_body_avatar, "synthetic SMPL-X": make_avatar}


def import_one(tmp_path, avatar):
    return import_scene(write_scene(tmp_path / "out", [avatar], make_camera())).people[0]


def seen_colours(person):
    bpy.context.view_layer.update()
    evaluated = person.splats.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return read_attribute(evaluated.data, COLOUR)


def check_colours(person, avatar, pose, transl):
    posed = pose_avatar(avatar, pose, transl)
    camera = np.array(bpy.context.scene.camera.matrix_world)[:3, 3]
    eye = convert_points(camera, "blender", "scene")
    rays = posed.means - eye
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    colours = seen_colours(person)
    np.testing.assert_allclose(colours[:, :3], eval_sh(posed.sh, rays), atol=1 / 255)
    np.testing.assert_allclose(colours[:, 3], avatar.gaussians.opacities, atol=1e-6)
    assert np.abs(eval_sh(posed.sh, rays) - eval_sh(avatar.gaussians.sh, rays)).max() > 0.2


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_random_poses(empty_blender, tmp_path, body, seed):
    avatar = BODIES[body](1500, degree=3, seed=seed)
    person = import_one(tmp_path, avatar)
    rng = np.random.default_rng(seed)
    pose = 3 * random_pose(rng, seed)
    transl = avatar.transl + rng.normal(0, 0.3, 3)
    person.rig.animation_data_clear()
    set_pose(person.rig, pose, transl)
    check_colours(person, avatar, pose, transl)
    check_splats(person, avatar, pose, transl)


@pytest.mark.parametrize("degree", [1, 2])
def test_lower_degrees(empty_blender, tmp_path, degree):
    avatar = make_avatar(300, degree=degree)
    person = import_one(tmp_path, avatar)
    avatar.gaussians.sh[:, 1:] *= 3  # only the check that colours do depend on the pose
    person = import_scene(write_scene(tmp_path / "again", [avatar], make_camera())).people[0]
    check_colours(person, avatar, avatar.pose, avatar.transl)


def test_colours_turn_with_the_armature_object(empty_blender, tmp_path):
    avatar = make_avatar(300, degree=3)
    person = import_one(tmp_path, avatar)
    before = seen_colours(person)
    camera = bpy.context.scene.camera  # everything moves together: nothing changes
    camera.parent = person.rig
    camera.matrix_parent_inverse = person.rig.matrix_world.inverted()
    person.rig.rotation_euler.z += 1.2
    person.rig.location.x += 0.7
    np.testing.assert_allclose(seen_colours(person), before, atol=2e-3)
    camera.parent = None
    assert np.abs(seen_colours(person) - before).max() > 0.05


def test_people_without_harmonics_have_no_nodes_for_them(empty_blender, tmp_path):
    import_one(tmp_path, make_avatar(50))
    (plain,) = splat_node_groups()
    import_scene(write_scene(tmp_path / "sh", [make_avatar(50, degree=3)], make_camera()))
    (rich,) = set(splat_node_groups()) - {plain}
    harmonics = [{n.inputs["Name"].default_value for n in tree.nodes if "Name" in n.inputs
                  and n.inputs["Name"].default_value.startswith(SH_PREFIX)}
                 for tree in (plain, rich)]  # fmt: skip
    assert [len(names) for names in harmonics] == [0, 15]
    assert len(rich.nodes) > 2 * len(plain.nodes)
