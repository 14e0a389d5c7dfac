# SPDX-License-Identifier: Apache-2.0
"""People are found by what they carry, and their poses are read back exactly."""

import bpy
import numpy as np
import pytest
from _support.blender.blender_people import random_pose
from crowdgaussian_addon.scene.attributes import SHARE_STEP
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.people import (
    all_people,
    photo_pose,
    read_body,
    read_pose,
    read_transforms,
    read_weights,
    require_people,
    rig_of,
    selected_people,
    world_scale,
)
from crowdgaussian_addon.scene.rig.armature import set_pose
from crowdgaussian_addon.scene.rig.read_pose import read_rest_joints
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skinning import joint_transforms


@pytest.fixture
def crowd(empty_blender, scene_folder):
    return import_scene(scene_folder)


def test_renamed_people_are_the_same_people(crowd):
    for number, obj in enumerate(crowd.collection.all_objects):
        obj.name = f"thing {number}"
        obj.data.name = f"data {number}"
    crowd.people[0].collection.name = "Anna"
    people = all_people(bpy.context.scene)
    assert [(p.rig, p.splats, p.body, p.index) for p in people] == [
        (p.rig, p.splats, p.body, p.index) for p in crowd.people
    ]
    assert people[0].name == "Anna"
    assert rig_of(crowd.people[1].body) == crowd.people[1].rig
    assert rig_of(crowd.ground) is None


def test_selection_chooses_people(crowd):
    context = bpy.context
    for obj in context.selected_objects:
        obj.select_set(False)
    assert selected_people(context) == []
    assert len(require_people(context)) == 2
    crowd.people[1].splats.select_set(True)
    assert [p.index for p in require_people(context)] == [1]


def test_a_deleted_rig_is_told_in_one_sentence(crowd):
    bpy.data.objects.remove(crowd.people[1].rig)
    assert [p.index for p in all_people(bpy.context.scene)] == [0]
    crowd.people[1].splats.select_set(True)
    with pytest.raises(CrowdGaussianError, match="Person 001's rig was deleted; undo that"):
        require_people(bpy.context)
    crowd.people[1].splats.select_set(False)
    bpy.data.objects.remove(crowd.people[0].rig)
    with pytest.raises(CrowdGaussianError, match="Person 000's rig was deleted"):
        require_people(bpy.context)


def test_nobody_is_told_in_one_sentence(empty_blender):
    with pytest.raises(CrowdGaussianError, match="no people in this scene"):
        require_people(bpy.context)


@pytest.mark.parametrize("seed", [3, 4])
def test_read_pose_undoes_set_pose_wherever_the_rig_stands(crowd, seed):
    rng = np.random.default_rng(seed)
    rig = crowd.people[0].rig
    rig.animation_data_clear()
    rig.location = rng.normal(size=3)
    rig.rotation_euler = rng.normal(size=3)
    pose, transl = 2 * random_pose(rng, seed).astype(float), rng.normal(size=3)
    if seed == 4:  # inside a group that the artist has moved
        rig.parent = bpy.data.objects.new("group", None)
        bpy.context.scene.collection.objects.link(rig.parent)
        rig.parent.location, rig.parent.rotation_euler = (1, 2, 3), (0.3, 0.2, 0.1)
        bpy.context.view_layer.update()
    set_pose(rig, pose, transl)
    got, place = read_pose(rig)
    same_rotations(got, pose)
    np.testing.assert_allclose(place, transl, atol=1e-5)


def test_a_moved_turned_and_scaled_rig_is_read_in_the_world(crowd, avatars):
    rig, avatar = crowd.people[0].rig, avatars[0]
    before, _ = read_pose(rig)
    rig.rotation_euler.z += 0.7
    rig.location.x += 2.0
    rig.scale = (1.5, 1.5, 1.5)
    pose, transl = read_pose(rig)
    assert world_scale(rig) == pytest.approx(1.5)
    same_rotations(pose[1:], before[1:])
    assert not np.allclose(pose[0], before[0], atol=0.1)
    joints = read_rest_joints(rig)
    np.testing.assert_allclose(joints, avatar.rest_joints, atol=1e-5)
    wanted = joint_transforms(joints, pose, transl)
    got = read_transforms(rig)
    np.testing.assert_allclose(got[:, :3, :3], 1.5 * wanted[:, :3, :3], atol=1e-5)
    posed = np.einsum("jab,jb->ja", wanted[:, :3], np.c_[joints, np.ones(55)])
    larger = posed[0] + 1.5 * (posed - posed[0])  # scale acts about the pelvis
    now = np.einsum("jab,jb->ja", got[:, :3], np.c_[joints, np.ones(55)])
    np.testing.assert_allclose(now, larger, atol=1e-5)


def test_photo_pose_outlives_other_actions(crowd, avatars):
    for person, avatar in zip(crowd.people, avatars):
        person.rig.animation_data_clear()
        pose, transl = photo_pose(person.rig)
        np.testing.assert_allclose(pose, avatar.pose, atol=1e-6)
        np.testing.assert_allclose(transl, avatar.transl, atol=1e-6)


def test_weights_and_body_are_read_back(crowd, avatars):
    person, avatar = all_people(bpy.context.scene)[1], avatars[1]
    dense = np.zeros((2, len(avatar.gaussians), 55))
    pairs = [(avatar.skin_joints, avatar.skin_weights), read_weights(person.splats, 4)]
    for table, (joints, weights) in zip(dense, pairs):
        for k in range(4):
            np.add.at(table, (np.arange(len(table)), joints[:, k]), weights[:, k])
    np.testing.assert_allclose(dense[1], dense[0], atol=2 * SHARE_STEP)
    np.testing.assert_allclose(dense[1].sum(axis=1), 1, atol=1e-6)
    body = read_body(person)
    np.testing.assert_allclose(body.vertices, avatar.body.vertices, atol=1e-5)
    np.testing.assert_array_equal(body.faces, avatar.body.faces)


def same_rotations(got, wanted):
    np.testing.assert_allclose(axis_angle_to_matrix(got), axis_angle_to_matrix(wanted), atol=2e-5)
