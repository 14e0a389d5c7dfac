# SPDX-License-Identifier: Apache-2.0
"""Blender's evaluated meshes against the numpy skinning reference, for any pose."""

import bpy
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, random_pose, write_scene
from _support.blender.evaluated import TOLERANCE, check_splats, deformed
from crowdgaussian_addon.scene.attributes import read_positions
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.people import read_weights
from crowdgaussian_addon.scene.rig.armature import set_pose
from crowdgaussian_addon.scene.splats.build import MIN_SCALE, weights_to_groups
from crowdgaussian_addon.scene.splats.edit import delete_splats
from crowdgaussian_addon.scene.splats.material import TIP_STEP
from crowdgaussian_shared.geometry.axes import scene_to_blender
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, JOINT_NAMES
from crowdgaussian_shared.geometry.skinning import joint_transforms, pose_body


def test_photo_pose(empty_blender, scene_folder, avatars):
    result = import_scene(scene_folder)
    assert len(result.people) == len(avatars)
    for person, avatar in zip(result.people, avatars):
        check_splats(person, avatar, avatar.pose, avatar.transl)


@pytest.mark.parametrize("seed", [3, 4])
def test_random_poses_anywhere(empty_blender, scene_folder, avatars, seed):
    rng = np.random.default_rng(seed)
    person = import_scene(scene_folder).people[1]
    pose = 3 * random_pose(rng, seed)
    transl = rng.normal(size=3)
    set_pose(person.rig, pose, transl)
    person.rig.animation_data_clear()
    check_splats(person, avatars[1], pose, transl)


def test_weights_as_groups_show_what_the_nodes_showed(empty_blender, scene_folder, avatars):
    person = import_scene(scene_folder).people[0]
    person.splats.location.x += 0.2  # moved against the rig
    bpy.context.view_layer.update()
    before, weights = shown(person.splats), dense(read_weights(person.splats, 4))
    weights_to_groups(person.splats)
    assert len(person.splats.vertex_groups) == len(JOINT_NAMES)
    np.testing.assert_allclose(shown(person.splats), before, atol=1e-5)
    np.testing.assert_allclose(dense(read_weights(person.splats, 4)), weights, atol=1e-6)
    person.splats.location.x -= 0.2
    check_splats(person, avatars[0], avatars[0].pose, avatars[0].transl)


def dense(stored):
    table = np.zeros((len(stored[0]), len(JOINT_NAMES)))
    for joints, weights in zip(stored[0].T, stored[1].T):
        np.add.at(table, (np.arange(len(table)), joints), weights)
    return table


def shown(splats):
    """The quads as they face the camera, in the object's space."""
    evaluated = splats.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return read_positions(evaluated.data)


def test_splats_that_are_left_keep_their_joints(empty_blender, scene_folder):
    splats = import_scene(scene_folder).people[0].splats
    joints, weights = read_weights(splats, 4)
    doomed = np.arange(len(joints)) % 3 == 1
    delete_splats(splats.data, doomed)
    left = read_weights(splats, 4)
    np.testing.assert_array_equal(left[0], joints[~doomed])
    np.testing.assert_array_equal(left[1], weights[~doomed])


def test_a_duplicate_by_hand_follows_its_own_rig(empty_blender, scene_folder):
    person = import_scene(scene_folder).people[0]
    for obj in bpy.context.scene.objects:
        obj.select_set(obj in (person.rig, person.splats))
    bpy.ops.object.duplicate()
    rig = next(obj for obj in bpy.context.selected_objects if obj.type == "ARMATURE")
    twin = next(obj for obj in bpy.context.selected_objects if obj.type == "MESH")
    before, mine = shown(twin), shown(person.splats)
    rig.animation_data_clear()
    rig.pose.bones["left_shoulder"].rotation_quaternion = (0.7, 0.0, 0.0, 0.7)
    bpy.context.view_layer.update()
    assert np.abs(shown(twin) - before).max() > 0.2
    np.testing.assert_array_equal(shown(person.splats), mine)


def test_raising_an_arm_moves_and_turns_its_gaussians(empty_blender, scene_folder, avatars):
    person, avatar = import_scene(scene_folder).people[0], avatars[0]
    before = deformed(person.splats).reshape(-1, 4, 3)
    pose = avatar.pose.copy()
    pose[JOINT_INDEX["left_shoulder"]] = (0.3, -0.2, 1.1)
    set_pose(person.rig, pose, avatar.transl, frame=2)
    bpy.context.scene.frame_set(2)
    check_splats(person, avatar, pose, avatar.transl)
    moved = np.linalg.norm(deformed(person.splats).reshape(-1, 4, 3)[:, 0] - before[:, 0], axis=1)
    on_arm = avatar.gaussians.means[:, 0] > 0.5
    assert moved[on_arm].min() > 0.1
    assert moved[avatar.gaussians.means[:, 1] < -0.5].max() < 1e-5
    bpy.context.scene.frame_set(1)
    check_splats(person, avatar, avatar.pose, avatar.transl)


def test_body_mesh_follows_the_same_bones(empty_blender, scene_folder, avatars):
    for person, avatar in zip(import_scene(scene_folder).people, avatars):
        assert person.body.hide_render
        person.body.hide_set(False)
        wanted = scene_to_blender(pose_body(avatar))
        np.testing.assert_allclose(deformed(person.body), wanted, atol=TOLERANCE)


def test_rig_has_55_named_bones_at_the_joints(empty_blender, scene_folder, avatars):
    result = import_scene(scene_folder)
    bpy.context.view_layer.update()
    for person, avatar in zip(result.people, avatars):
        bones = person.rig.pose.bones
        assert sorted(bone.name for bone in bones) == sorted(JOINT_NAMES)
        assert min(bone.length for bone in person.rig.data.bones) > 0.004
        transforms = joint_transforms(avatar.rest_joints, avatar.pose, avatar.transl)
        joints = np.einsum("jab,jb->ja", transforms[:, :3, :3], avatar.rest_joints)
        joints = scene_to_blender(joints + transforms[:, :3, 3])
        heads = [person.rig.matrix_world @ bones[name].head for name in JOINT_NAMES]
        np.testing.assert_allclose(np.array(heads), joints, atol=TOLERANCE)


def test_rest_pose_stands_on_the_floor_where_the_person_stood(empty_blender, scene_folder, avatars):
    person, avatar = import_scene(scene_folder).people[1], avatars[1]
    person.rig.data.pose_position = "REST"
    person.body.hide_set(False)
    vertices = deformed(person.body)
    assert abs(vertices[:, 2].min()) < TOLERANCE
    place = scene_to_blender(avatar.transl + avatar.rest_joints[0])
    np.testing.assert_allclose(vertices.mean(axis=0)[:2], place[:2], atol=0.1)


def test_view_dependent_colour_is_kept_for_later(empty_blender, tmp_path):
    avatar = make_avatar(50, degree=2)
    person = import_scene(write_scene(tmp_path / "out", [avatar], make_camera())).people[0]
    names = {attribute.name for attribute in person.splats.data.attributes}
    assert {f"splat_sh_{k}" for k in range(1, 9)} <= names


def test_flat_gaussians_keep_a_direction(empty_blender, tmp_path):
    avatar = make_avatar(50)
    avatar.gaussians.scales[:, 2] = 0
    person = import_scene(write_scene(tmp_path / "out", [avatar], make_camera())).people[0]
    person.rig.data.pose_position = "REST"
    points = deformed(person.splats).reshape(-1, 4, 3)
    thinnest = np.linalg.norm(points[:, 3] - points[:, 0], axis=1)
    np.testing.assert_allclose(thinnest, MIN_SCALE, atol=TIP_STEP)
