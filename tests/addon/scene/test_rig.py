# SPDX-License-Identifier: Apache-2.0
"""Bone collections, IK that never jumps, one-click poses, bodies as shadows and obstacles."""

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from crowdgaussian_addon.ops import state
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.people import photo_pose, read_pose
from crowdgaussian_addon.scene.rig import ik as controls
from crowdgaussian_addon.scene.rig.armature import set_pose
from crowdgaussian_addon.scene.rig.bones import edit_bones
from crowdgaussian_addon.scene.splats.nodes.skin import can_skin
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES
from mathutils import Vector

STILL = 2e-4  # metres and entries of rotation matrices
OPS = bpy.ops.crowdgaussian


@pytest.fixture
def crowd(empty_blender, scene_folder):
    state.close_session()
    crowdgaussian_addon.register()
    yield import_scene(scene_folder)
    crowdgaussian_addon.unregister()


def deform_pose(rig):
    bpy.context.view_layer.update()
    pose = controls.pose_matrices(rig)
    return np.stack([pose[name] for name in JOINT_NAMES])


def test_bones_are_sorted_into_collections(crowd):
    collections = {c.name: len(c.bones) for c in crowd.people[0].rig.data.collections}
    assert collections == {"Body": 22, "Left Hand": 15, "Right Hand": 15, "Face": 3}


def test_limb_bones_hinge_about_x_and_meet_their_children(crowd):
    bones = crowd.people[0].rig.data.bones
    for side in ("left", "right"):
        for upper, lower in (("hip", "knee"), ("shoulder", "elbow")):
            tail = np.array(bones[f"{side}_{upper}"].tail_local)
            np.testing.assert_allclose(tail, bones[f"{side}_{lower}"].head_local, atol=1e-6)
        knee, elbow = (np.array(bones[f"{side}_{n}"].matrix_local) for n in ("knee", "elbow"))
        assert abs(knee[0, 0]) > 0.95, "a knee bends about the left-right axis"
        assert abs(elbow[2, 0]) > 0.95, "an elbow of the T-pose bends about the vertical"


def test_adding_switching_and_removing_ik_never_moves_anybody(crowd):
    rigs = [person.rig for person in crowd.people]
    before = [deform_pose(rig) for rig in rigs]
    assert OPS.add_ik() == {"FINISHED"}
    assert len(rigs[0].pose.bones) == 55 + 8 + 2 * 5 + 2 + 1  # limbs, feet, hands, root
    for rig, pose in zip(rigs, before):
        np.testing.assert_allclose(deform_pose(rig), pose, atol=STILL)
    hand = rigs[0].pose.bones["left_hand_ik"]
    hand.location.y -= 0.12
    rigs[0].pose.bones["left_elbow_pole"].location.x += 0.3
    rigs[0].pose.bones["right_foot_ik"].location.z += 0.2
    turn(rigs[0], "right_foot_roll", x=-60)
    turn(rigs[0], "left_foot_roll", x=20)
    turn(rigs[0], "left_fingers", x=-70, z=-10)
    rigs[0].pose.bones["root"].location = (0.4, -0.2, 0.1)
    turn(rigs[0], "root", x=10, z=80)
    moved = deform_pose(rigs[0])
    assert np.abs(moved - before[0])[JOINT_NAMES.index("left_wrist")].max() > 0.02
    for way in ("FK", "IK"):
        OPS.switch_ik(to=way)
        assert controls.ik_is_on(rigs[0], "left_arm") == (way == "IK")
        np.testing.assert_allclose(deform_pose(rigs[0]), moved, atol=STILL)
    assert OPS.remove_ik() == {"FINISHED"}
    np.testing.assert_allclose(deform_pose(rigs[0]), moved, atol=STILL)
    assert sorted(bone.name for bone in rigs[0].data.bones) == sorted(JOINT_NAMES)
    assert len(rigs[0].data.collections) == 4
    assert not any(bone.constraints for bone in rigs[0].pose.bones)
    bpy.context.scene.frame_set(5)
    np.testing.assert_allclose(deform_pose(rigs[0]), moved, atol=STILL)


def turn(rig, bone, **degrees):
    for axis, angle in degrees.items():
        rig.pose.bones[bone].rotation_mode = "XYZ"
        setattr(rig.pose.bones[bone].rotation_euler, axis, np.radians(angle))


def test_the_root_moves_the_whole_person(crowd):
    rig = crowd.people[0].rig
    before = deform_pose(rig)
    OPS.add_ik()
    rig.pose.bones["root"].location = (0.4, -0.2, 0.1)
    turn(rig, "root", x=10, z=80)
    after = deform_pose(rig)
    moved = np.array(rig.pose.bones["root"].matrix)
    assert np.abs(moved[:3, 3] - (0.4, -0.2, 0.1)).max() < 1e-6
    np.testing.assert_allclose(after, moved @ before, atol=STILL)
    pose, transl = photo_pose(rig)
    OPS.photo_pose()  # where the person is now: on the root
    np.testing.assert_allclose(deform_pose(rig), moved @ before, atol=STILL)
    OPS.photo_pose(back=True)
    np.testing.assert_allclose(read_pose(rig)[1], transl, atol=1e-4)


def test_a_foot_rolls_about_ball_tip_and_heel(crowd):
    rig = crowd.people[0].rig
    OPS.rest_pose()
    OPS.add_ik()
    still = {name: np.array(m) for name, m in controls.pose_matrices(rig).items()}
    ankle, toe = "left_ankle", "left_foot"
    turn(rig, "left_foot_roll", x=-30)
    rolled = rolled_pose(rig)
    np.testing.assert_allclose(rolled[toe], still[toe], atol=STILL)  # toes lie where they lay
    assert rolled[ankle][2, 3] > still[ankle][2, 3] + 0.04
    turn(rig, "left_foot_roll", x=-75)
    rolled = rolled_pose(rig)
    tip = still["left_foot_tip"][:3, 3]
    np.testing.assert_allclose(rolled["left_foot_tip"][:3, 3], tip, atol=1e-5)
    assert rolled[toe][2, 3] > still[toe][2, 3] + 0.02  # the ball leaves the floor
    turn(rig, "left_foot_roll", x=20)
    rolled = rolled_pose(rig)
    heel = np.linalg.inv(still[ankle]) @ still["left_foot_heel"][:, 3]
    np.testing.assert_allclose(
        (rolled[ankle] @ heel)[:3], still["left_foot_heel"][:3, 3], atol=1e-3
    )
    assert rolled[toe][2, 3] > still[toe][2, 3] + 0.03
    np.testing.assert_allclose(rolled["right_foot"], still["right_foot"], atol=1e-5)


def test_straight_limbs_bend_towards_their_poles(crowd):
    rig = crowd.people[0].rig
    OPS.rest_pose()
    straight = deform_pose(rig)
    OPS.add_ik()
    np.testing.assert_allclose(deform_pose(rig), straight, atol=5e-3)
    shift(rig, "left_foot_ik", (0.05, -0.3, 0.25))
    shift(rig, "right_hand_ik", (0.3, -0.05, 0.1))
    pose = rolled_pose(rig)
    for name in ("left_leg", "right_arm"):
        limb = controls.LIMBS[name]
        root, joint, end, pole = (
            pose[n][:3, 3] for n in (limb.upper, limb.lower, limb.end, limb.pole)
        )
        along = (end - root) / np.linalg.norm(end - root)
        bent, aim = (v - along * (v @ along) for v in (joint - root, pole - root))
        assert np.linalg.norm(bent) > 0.08
        assert bent @ aim > np.cos(np.radians(8)) * np.linalg.norm(bent) * np.linalg.norm(aim)
        np.testing.assert_allclose(end, pose[limb.target][:3, 3], atol=1e-3)


def shift(rig, name, offset):
    """Move a control by metres along the armature's axes."""
    bone = rig.pose.bones[name]
    bone.location += bone.bone.matrix_local.to_3x3().inverted() @ Vector(offset)


def rolled_pose(rig):
    bpy.context.view_layer.update()
    return controls.pose_matrices(rig)


def test_one_control_curls_and_fans_a_hand_on_top_of_its_keys(crowd):
    rig = crowd.people[0].rig
    OPS.rest_pose()
    OPS.add_ik()
    rig.pose.bones["right_index2"].rotation_quaternion = (np.cos(0.1), -np.sin(0.1), 0, 0)
    turn(rig, "right_fingers", x=-50)
    bpy.context.view_layer.update()
    pose, _ = read_pose(rig)
    bent = np.degrees(np.linalg.norm(pose, axis=1))
    for joint, angle in (("right_middle1", 50), ("right_pinky3", 50),
                         ("right_index2", 50 + np.degrees(0.2)), ("left_middle1", 0)):  # fmt: skip
        assert abs(bent[JOINT_NAMES.index(joint)] - angle) < 0.1
    tips = deform_pose(rig)[:, :3, 3]
    wrist, tip = (tips[JOINT_NAMES.index(f"right_{n}")] for n in ("wrist", "middle3"))
    assert tip[2] < wrist[2] - 0.02, "the palm looks down, and fingers close towards it"
    turn(rig, "right_fingers", x=0, z=20)
    bpy.context.view_layer.update()
    index, pinky = (read_pose(rig)[0][JOINT_NAMES.index(f"right_{n}1")] for n in ("index", "pinky"))
    assert np.degrees(index[1] - pinky[1]) > 15, "index and little finger part"


def test_controls_of_an_older_version_get_root_roll_and_shapes(crowd):
    rig = crowd.people[0].rig
    OPS.add_ik(root=False, fingers=False)
    as_in_an_older_version(rig)
    rig.pose.bones["left_foot_ik"].location.z += 0.1
    before = deform_pose(rig)
    OPS.add_ik()
    np.testing.assert_allclose(deform_pose(rig), before, atol=STILL)
    assert all(
        rig.pose.bones[name].custom_shape
        for name in ("root", "left_foot_ik", "left_foot_roll", "right_fingers", "left_knee_pole")
    )
    palettes = {
        n: rig.data.bones[n].color.palette for n in ("root", "left_hand_ik", "right_hand_ik")
    }
    assert len(set(palettes.values())) == 3
    assert rig.data.bones["left_foot_ik"].parent.name == "root"
    turn(rig, "left_foot_roll", x=-40)
    assert np.abs(deform_pose(rig) - before).max() > 0.03
    OPS.remove_ik()
    assert sorted(bone.name for bone in rig.data.bones) == sorted(JOINT_NAMES)


def as_in_an_older_version(rig):
    """Without what feet are rolled by, and shapes."""

    def remove(bones):
        for bone in [b for b in bones if "foot_" in b.name and not b.name.endswith("ik")]:
            bones.remove(bone)

    edit_bones(rig, remove)
    for bone in rig.pose.bones:
        bone.custom_shape = None
        for constraint in list(bone.constraints):
            if constraint.type == "TRANSFORM":
                bone.constraints.remove(constraint)
            elif constraint.subtarget.endswith("goal"):
                constraint.subtarget = constraint.subtarget.replace("goal", "ik")


def test_ik_follows_a_motion_and_gives_it_back(crowd, avatars):
    rig, pose = crowd.people[0].rig, avatars[0].pose.astype(float)
    other = pose.copy()
    other[[16, 18], 1] += 0.4
    set_pose(rig, other, avatars[0].transl + np.float32([0.3, 0, 0]), frame=4)
    frames = (1, 2, 4)
    before = poses_at(rig, frames)
    rig.select_set(True)
    OPS.add_ik(limbs="ARMS")
    assert controls.limbs_with_controls(rig) == ["left_arm", "right_arm"]
    assert not controls.limbs_with_controls(crowd.people[1].rig)
    np.testing.assert_allclose(poses_at(rig, frames), before, atol=1e-3)
    OPS.remove_ik()
    np.testing.assert_allclose(poses_at(rig, frames), before, atol=1e-3)


def poses_at(rig, frames):
    found = []
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        found.append(deform_pose(rig))
    return np.stack(found)


def test_a_hidden_rig_gets_no_controls_and_nobody_else_either(crowd):
    crowd.people[1].rig.hide_set(True)
    with pytest.raises(RuntimeError, match="Person 001 is hidden; show it"):
        OPS.add_ik()
    assert not controls.limbs_with_controls(crowd.people[0].rig)


def test_rest_and_photo_pose_after_other_actions(crowd, avatars):
    person, avatar = crowd.people[0], avatars[0]
    person.rig.animation_data.action = bpy.data.actions.new("dance")
    set_pose(person.rig, avatar.pose * 0.3, avatar.transl, frame=1)
    person.rig.location.x += 1.0
    person.rig.rotation_euler.z += 0.5
    OPS.rest_pose()
    bpy.context.scene.frame_set(3)
    pose, _ = read_pose(person.rig)
    np.testing.assert_allclose(pose[1:], 0, atol=1e-5)
    assert bpy.data.actions["dance"].use_fake_user
    OPS.add_ik()  # controls follow a new pose
    OPS.photo_pose()
    check_pose(person.rig, avatar.pose[1:], slice(1, None))
    _, place = read_pose(person.rig)
    assert np.linalg.norm(place - avatar.transl) > 0.9, "people keep the place they were put at"
    OPS.photo_pose(back=True)
    check_pose(person.rig, avatar.pose)
    np.testing.assert_allclose(read_pose(person.rig)[1], avatar.transl, atol=1e-4)


def check_pose(rig, wanted, part=slice(None)):
    got, _ = read_pose(rig)
    np.testing.assert_allclose(
        axis_angle_to_matrix(got[part]), axis_angle_to_matrix(wanted), atol=STILL
    )


def test_files_without_a_stored_photo_pose_say_so(crowd):
    del crowd.people[1].rig["crowdgaussian_photo_pose"]
    before = deform_pose(crowd.people[0].rig)
    with pytest.raises(RuntimeError, match="Person 001 comes from an older file"):
        OPS.photo_pose()
    np.testing.assert_allclose(deform_pose(crowd.people[0].rig), before)
    assert photo_pose(crowd.people[0].rig)[0].shape == (55, 3)


def test_bodies_as_shadows_and_obstacles(crowd):
    bodies = [person.body for person in crowd.people]
    assert crowd.ground.hide_render
    OPS.body_shadow(enabled=True)
    assert not crowd.ground.hide_render  # nothing else would catch them
    for body in bodies:
        assert not body.hide_render and body.visible_shadow
        assert not (
            body.visible_camera
            or body.visible_diffuse
            or body.visible_glossy
            or body.visible_transmission
            or body.visible_volume_scatter
        )
    assert not any(person.splats.visible_shadow for person in crowd.people)
    OPS.body_collision(kind="SOFT")
    assert all(body.collision is not None and body.visible_get() for body in bodies)
    OPS.body_collision(kind="RIGID")
    assert all(body.rigid_body.type == "PASSIVE" and body.rigid_body.kinematic for body in bodies)
    assert not any(m.type == "COLLISION" for body in bodies for m in body.modifiers)
    OPS.body_shadow(enabled=False)
    assert not any(body.visible_shadow or body.visible_camera for body in bodies)
    OPS.body_collision(kind="NONE")
    assert all(body.rigid_body is None and body.hide_render for body in bodies)


def test_painted_weights_move_what_they_are_painted_on(crowd):
    person = crowd.people[0]
    splats = person.splats
    for obj in bpy.context.scene.objects:
        obj.select_set(obj == person.rig)
    assert OPS.paint_weights.poll() == can_skin()
    if can_skin():
        assert OPS.paint_weights() == {"FINISHED"} and not OPS.paint_weights.poll()
    splats.vertex_groups["head"].add(range(4), 1.0, "REPLACE")
    for group in splats.vertex_groups:
        if group.name != "head":
            group.remove(range(4))
    bpy.context.view_layer.update()
    from crowdgaussian_addon.scene.people import read_weights

    joints, weights = read_weights(splats, vertices_per_row=4)
    assert JOINT_NAMES[joints[0, 0]] == "head" and weights[0, 0] == 1.0
