# SPDX-License-Identifier: GPL-3.0-or-later
"""Motions on people in Blender: files of all kinds, feet, places, delays, other rigs, bad input."""

import json

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar
from _support.made_up_motion import FPS, cmu_walk, slide, walk_poses
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.motion.apply import MotionOptions, play_motion
from crowdgaussian_addon.scene.people import all_people, read_pose
from crowdgaussian_addon.scene.rig.read_pose import photo_pose, read_rest_joints
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowdgaussian_shared.geometry.skinning import joint_transforms
from crowdgaussian_shared.motion.kinematics import ADULT_SOLE, adult_joints
from crowdgaussian_shared.motion.read import read_motion

FEET = [7, 8, 10, 11]
Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # AMASS's world from the scene's
MAX_SLIDE = 0.02  # metres


@pytest.fixture
def avatars():
    """Two people of few splats: here their bones matter."""
    return [make_avatar(120, seed=seed) for seed in (0, 1)]


@pytest.fixture
def addon(empty_blender):
    crowdgaussian_addon.register()
    yield bpy.context.scene
    crowdgaussian_addon.unregister()


@pytest.fixture
def people(addon, scene_folder):
    import_scene(scene_folder)
    bpy.context.view_layer.update()
    return all_people(addon)


def turned(poses, matrix):
    poses = poses.copy()
    poses[:, 0] = matrix_to_axis_angle(matrix @ axis_angle_to_matrix(poses[:, 0]))
    return poses


def write_amass(path, **others):
    poses, transl, stands = walk_poses(adult_joints(), ADULT_SOLE, seconds=2.0)
    arrays = {
        "poses": turned(poses, Z_UP)[:, [*range(22), *range(25, 55)]].reshape(len(poses), -1),
        "trans": transl @ Z_UP.T, "mocap_framerate": np.float64(FPS), "betas": np.zeros(16),
        "gender": np.array("male"), "dmpls": np.zeros((len(poses), 8)),
    } | others  # fmt: skip
    np.savez(path, **arrays)
    return path, stands


def write_bvh(path):
    text, walk = cmu_walk(seconds=2.0)
    path.write_text(text)
    return path, walk.stands


def write_json(path):
    poses, transl, stands = walk_poses(adult_joints(), ADULT_SOLE, seconds=2.0)
    poses, transl, stands = poses[::2], transl[::2], stands[::2]  # 30 frames a second
    flip = np.diag([1.0, -1.0, -1.0])
    poses, transl = turned(poses, flip), transl @ flip + (0.0, 1.0, 4.0)
    (path / "smplx_params").mkdir(parents=True)
    for k, (pose, place) in enumerate(zip(poses, transl)):
        frame = {
            "root_pose": pose[0], "body_pose": pose[1:22], "jaw_pose": pose[22],
            "leye_pose": pose[23], "reye_pose": pose[24], "lhand_pose": pose[25:40],
            "rhand_pose": pose[40:], "trans": place, "betas": np.zeros(10), "focal": [1e3, 1e3],
        }  # fmt: skip
        text = json.dumps({name: np.asarray(value).tolist() for name, value in frame.items()})
        (path / "smplx_params" / f"{k + 1:05d}.json").write_text(text)
    return path, np.repeat(stands, 2, axis=0)


def joints_over(people, frames):
    """Where everybody's joints are seen, in the scene frame.  # [T, 55, 3] each"""
    rests, rows = [read_rest_joints(person.rig) for person in people], [[] for _ in people]
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        for person, rest, places in zip(people, rests, rows):
            A = joint_transforms(rest, *read_pose(person.rig))
            places.append(np.einsum("jab,jb->ja", A[:, :3, :3], rest) + A[:, :3, 3])
    return [np.stack(places) for places in rows]


def apply(path, **options):
    return bpy.ops.crowdgaussian.apply_motion(filepath=str(path), **options)


@pytest.mark.parametrize("write, name", [
    (write_amass, "walk.npz"), (write_bvh, "walk.bvh"), (write_json, "walk"),
])  # fmt: skip
def test_plays_on_everybody_with_feet_that_stand(people, tmp_path, write, name):
    path, stands = write(tmp_path / name)
    scene = bpy.context.scene
    scene.render.fps = 30
    people[0].rig.location.x -= 2
    people[0].rig.rotation_euler.z = 1.2
    bpy.context.view_layer.update()
    assert apply(path) == {"FINISHED"}
    assert scene.frame_start == 1 and abs(scene.frame_end - 60) <= 1
    frames = range(1, scene.frame_end + 1)
    for person, joints in zip(people, joints_over(people, frames)):
        held = stands[np.minimum(2 * np.arange(len(frames)), len(stands) - 1)]
        assert slide(joints[:, FEET], held) < MAX_SLIDE
        # From where they stand, the way they face: the rig's -y in Blender.
        x, y, _ = person.rig.location
        np.testing.assert_allclose(joints[0, 0, [0, 2]], (x, -y), atol=1e-4)
        way = joints[-1, 0] - joints[0, 0]
        facing = -np.array(person.rig.matrix_world)[:2, 1]
        cosine = way[[0, 2]] @ (facing * (1, -1)) / np.linalg.norm(way[[0, 2]])
        assert cosine > 0.999 and np.linalg.norm(way) > 1.0
        # Upright, head on top, hands down, soles on the floor.
        tall = joints[:, 15, 1] - joints[:, FEET, 1].min(axis=1)
        assert 1.3 < tall.min() and tall.max() < 1.7
        assert (joints[:, 20, 1] < joints[:, 16, 1] - 0.3).all()
        assert abs(joints[:, FEET[2:], 1].min() - 0.03) < 0.02


def test_a_second_motion_goes_on_from_the_first_as_a_strip(people, tmp_path):
    path, _ = write_amass(tmp_path / "walk.npz")
    bpy.context.scene.render.fps = 30
    people[0].rig.rotation_euler.z = 0.7
    people[1].rig.select_set(True)
    assert apply(path) == {"FINISHED"}
    bpy.ops.object.select_all(action="DESELECT")
    one = people[1].rig
    before = joints_over([people[1]], (30, 59))[0]
    assert apply(path, first_frame=40, strip_in=10) == {"FINISHED"}
    assert not people[0].rig.animation_data.nla_tracks  # it had none: an action, as before
    tracks = one.animation_data.nla_tracks
    assert one.animation_data.action is None and len(tracks) == 2
    assert [t.name for t in tracks] == [t.strips[0].name for t in tracks]
    assert tracks[1].strips[0].blend_in == 10 and tracks[1].strips[0].frame_start == 40
    assert (bpy.context.scene.frame_start, bpy.context.scene.frame_end) == (1, 99)
    frames = (30, 38, 39, *range(40, 100))
    joints = joints_over([people[1]], frames)[0]
    np.testing.assert_allclose(joints[0], before[0], atol=1e-4)  # what lies below is as it was
    steps = np.linalg.norm(np.diff(joints[1:, 0], axis=0), axis=1)
    assert steps.max() < 2 * steps[:2].max(), "nobody jumps where one turns into the other"
    ways = joints[0, 0] - joints_over([people[1]], [1])[0][0, 0], joints[-1, 0] - joints[3, 0]
    a, b = (way[[0, 2]] / np.linalg.norm(way[[0, 2]]) for way in ways)
    assert a @ b > 0.99 and np.linalg.norm(ways[1]) > 1.0, "straight on"
    assert apply(path, layer=False) == {"FINISHED"}
    assert one.animation_data.action is not None


@pytest.mark.parametrize("ending", ["fbx", "glb"])
def test_motion_of_fbx_and_glb_comes_by_blenders_own_importers(people, tmp_path, ending):
    scene = bpy.context.scene
    scene.render.fps = 30
    apply(write_amass(tmp_path / "walk.npz")[0])
    frames = (1, 20, 45)
    wanted = joints_over([people[0]], frames)[0]
    people[0].rig.select_set(True)
    path = tmp_path / f"moves.{ending}"
    bpy.ops.crowdgaussian.export_rigs(
        filepath=str(path), format=ending.upper(), names="UNREAL", animation=True,
        frame_start=1, frame_end=50,
    )  # fmt: skip
    before = {kind: len(getattr(bpy.data, kind)) for kind in ("objects", "armatures", "scenes")}
    bpy.ops.object.select_all(action="DESELECT")
    people[1].rig.select_set(True)
    assert apply(path, layer=False) == {"FINISHED"}
    assert before == {kind: len(getattr(bpy.data, kind)) for kind in before}
    (got,) = joints_over([people[1]], frames)
    for body in (wanted, got):  # of one shape: places about the pelvis differ by heading alone
        body -= body[:, :1]
    np.testing.assert_allclose(
        np.linalg.norm(got, axis=2), np.linalg.norm(wanted, axis=2), atol=0.03
    )
    (tmp_path / f"bad.{ending}").write_bytes(b"no file")
    with pytest.raises(RuntimeError, match="cannot be read"):
        apply(tmp_path / f"bad.{ending}")


def test_a_bone_table_tells_what_names_do_not(people, tmp_path):
    text, _ = cmu_walk(seconds=1.0)
    (tmp_path / "walk.bvh").write_text(text)
    (tmp_path / "odd.bvh").write_text(text.replace("LeftUpLeg", "Bone017"))
    motion = bpy.context.scene.crowdgaussian_motion
    motion.path = str(tmp_path / "odd.bvh")
    with pytest.raises(RuntimeError, match="none is known as left_hip"):
        apply(motion.path)
    assert bpy.ops.crowdgaussian.bone_table() == {"FINISHED"}
    lines = [line.body for line in motion.table.lines]
    assert "left_hip = " in lines and "left_knee = LeftLeg" in lines and "# Bone017" in lines
    told = "\n".join(lines).replace("left_hip = ", "left_hip = Bone017")
    motion.table.clear()
    motion.table.write(told)
    assert apply(motion.path) == {"FINISHED"}
    (odd,) = joints_over(people[:1], [12])
    apply(tmp_path / "walk.bvh", layer=False)
    np.testing.assert_allclose(odd, joints_over(people[:1], [12])[0], atol=1e-5)
    motion.table.write("left_wing = Bone001\n")
    with pytest.raises(RuntimeError, match="names no joint: left_wing"):
        apply(motion.path)


def test_without_holding_other_legs_slide(people, tmp_path):
    """The measure can fail: a body of other proportions slides when feet are let go."""
    path, stands = write_amass(tmp_path / "walk.npz")
    poses, transl, _ = walk_poses(adult_joints(), ADULT_SOLE, seconds=2.0)
    np.savez(path, poses=poses.reshape(len(poses), -1), trans=1.1 * transl, fps=FPS,
             rest_joints=1.0 * adult_joints())  # fmt: skip
    bpy.context.scene.render.fps = 30
    slides = []
    for feet in (False, True):
        assert apply(path, feet=feet, layer=False) == {"FINISHED"}
        (joints,) = joints_over(people[:1], range(1, 60))
        slides.append(slide(joints[:, FEET], stands[::2][:59]))
    assert slides[0] > MAX_SLIDE > slides[1]


def test_places_of_the_file_come_back_exactly(people, tmp_path):
    """What write_motion_npz says of a person is seen again, wherever the rig stands."""
    from crowdgaussian_shared.motion.bvh import write_motion_bvh
    from crowdgaussian_shared.motion.motion import Motion
    from crowdgaussian_shared.motion.npz import write_motion_npz

    rng = np.random.default_rng(0)
    poses, transl = rng.normal(0, 0.5, (5, 55, 3)), rng.normal(0, 1, (5, 3))
    rest = read_rest_joints(people[1].rig)
    motion = Motion("random", 24.0, poses, transl)
    write_motion_npz(tmp_path / "a.npz", motion, rest)
    write_motion_bvh(tmp_path / "a.bvh", motion, rest)
    people[1].rig.location = (3, 1, 0.5)
    people[1].rig.rotation_euler = (0.2, 0.1, 2.0)
    people[1].rig.select_set(True)
    bpy.context.view_layer.update()
    for name in ("a.npz", "a.bvh"):
        assert apply(tmp_path / name, start="FILE", feet=False, floor=False, layer=False) == {
            "FINISHED"
        }
        for k in range(5):
            bpy.context.scene.frame_set(k + 1)
            pose, place = read_pose(people[1].rig)
            error = axis_angle_to_matrix(pose).swapaxes(1, 2) @ axis_angle_to_matrix(poses[k])
            angles = np.linalg.norm(matrix_to_axis_angle(error), axis=1)
            assert np.degrees(angles.max()) < 0.1
            if name == "a.npz":
                np.testing.assert_allclose(place, transl[k], atol=1e-4)
    assert people[0].rig.animation_data.action.name.endswith("photo pose")  # was not selected


def test_delays_repeats_and_the_photo_pose(people, tmp_path):
    path, _ = write_bvh(tmp_path / "walk.bvh")
    scene = bpy.context.scene
    assert apply(path, offset=10, repeats=2, root="IN_PLACE", blend_in=12) == {"FINISHED"}
    ranges = [person.rig.animation_data.action.frame_range for person in people]
    assert ranges[0][0] == 1 and ranges[1][0] == 11
    assert scene.frame_end == ranges[1][1] and ranges[0][1] > 85
    (joints,) = joints_over(people[:1], range(1, int(ranges[0][1]) + 1))
    assert np.ptp(joints[:, 0, [0, 2]], axis=0).max() < 1e-4
    assert np.linalg.norm(np.diff(joints, axis=0), axis=2).max() < 0.2  # no jump at the seam
    scene.frame_set(1)
    pose, _ = read_pose(people[0].rig)
    wanted, _ = photo_pose(people[0].rig)
    np.testing.assert_allclose(axis_angle_to_matrix(pose), axis_angle_to_matrix(wanted), atol=1e-4)


def test_random_delays_are_repeatable(people, tmp_path):
    motion = read_motion(write_bvh(tmp_path / "walk.bvh")[0])
    starts = []
    for seed in (1, 1, 2):
        list(play_motion(bpy.context.scene, people, motion, MotionOptions(spread=99, seed=seed)))
        starts.append([p.rig.animation_data.action.frame_range[0] for p in people])
    assert starts[0] == starts[1] != starts[2]


def mixamo_rig(count):
    """A rig with Mixamo's names in A-pose whose left arm is lifted over `count` frames."""
    joints = adult_joints()
    data = bpy.data.armatures.new("Other")
    rig = bpy.data.objects.new("Other", data)
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    names = {0: "Hips", 3: "Spine", 6: "Spine1", 9: "Spine2", 12: "Neck", 15: "Head"}
    for k, part in enumerate(("UpLeg", "Leg", "Foot", "ToeBase")):
        names |= {1 + 3 * k: f"Left{part}", 2 + 3 * k: f"Right{part}"}
    for joint, part in ((13, "Shoulder"), (16, "Arm"), (18, "ForeArm"), (20, "Hand")):
        names |= {joint: f"Left{part}", joint + 1: f"Right{part}"}
    bent = axis_angle_to_matrix(np.array([[0, 0, -0.8], [0, 0, 0.8]]))
    for side in (0, 1):  # A-pose
        for joint in (18 + side, 20 + side):
            shoulder = joints[16 + side]
            joints[joint] = shoulder + bent[side] @ (joints[joint] - shoulder)
    places = joints @ Z_UP.T + (0, 0, 1)
    from crowdgaussian_shared.geometry.skeleton import PARENTS

    for joint in sorted(names):
        bone = data.edit_bones.new("mixamorig:" + names[joint])
        bone.head = places[joint]
        bone.tail = places[joint] + (0, 0, 0.1)
        if PARENTS[joint] >= 0:
            bone.parent = data.edit_bones["mixamorig:" + names[PARENTS[joint]]]
    bpy.ops.object.mode_set(mode="OBJECT")
    arm = rig.pose.bones["mixamorig:LeftArm"]
    arm.rotation_mode = "XYZ"
    for frame, angle in ((1, 0.0), (count, -0.8)):  # about -y: up at the left
        arm.matrix_basis.identity()
        arm.rotation_euler = (0, 0, 0)
        arm.rotation_euler = arm.bone.matrix_local.to_3x3().inverted() @ _lift(angle)
        arm.keyframe_insert("rotation_euler", frame=frame)
    return rig


def _lift(angle):
    from mathutils import Vector

    return Vector((0, angle, 0))


def test_the_action_of_another_rig_is_corrected_for_its_rest_pose(people):
    rig = mixamo_rig(11)
    before = set(bpy.data.scenes)
    assert bpy.ops.crowdgaussian.apply_rig_motion(rig="Other") == {"FINISHED"}
    assert set(bpy.data.scenes) == before and rig.users_scene == tuple(before)
    (joints,) = joints_over(people[1:], (1, 11))
    arms = joints[:, 18] - joints[:, 16]
    right = joints[:, 19] - joints[:, 17]
    slopes = np.degrees(np.arcsin(arms[:, 1] / np.linalg.norm(arms, axis=1)))
    np.testing.assert_allclose(slopes, (np.degrees(-0.8), 0.0), atol=3.0)
    np.testing.assert_allclose(right[0], right[1], atol=0.01)
    before = snapshot(people)
    rig.data.bones["mixamorig:LeftLeg"].name = "Wheel"
    with pytest.raises(RuntimeError, match="none is known as left_knee"):
        bpy.ops.crowdgaussian.apply_rig_motion(rig="Other")
    assert snapshot(people) == before and len(bpy.data.scenes) == 1


@pytest.mark.parametrize("damage, words", [
    ({"poses": np.zeros((4, 63))}, "skeleton"),
    ({"poses": np.zeros((0, 156))}, "no frames"),
    ({"poses": np.full((4, 156), np.nan), "trans": np.zeros((4, 3))}, "NaN"),
    ({"poses": np.array([{}], dtype=object)}, "type"),
    ({"trans": np.zeros((7, 3))}, "trans"),
])  # fmt: skip
def test_bad_motions_leave_the_scene_alone(people, tmp_path, damage, words):
    path, _ = write_amass(tmp_path / "bad.npz", **damage)
    before = snapshot(people)
    with pytest.raises(RuntimeError, match=words) as caught:
        apply(path)
    assert "bad.npz" in str(caught.value)
    assert snapshot(people) == before


def snapshot(people):
    scene = bpy.context.scene
    return (
        sorted(action.name for action in bpy.data.actions), scene.frame_start, scene.frame_end,
        [person.rig.animation_data.action.name for person in people],
        [np.array(person.rig.matrix_world).tolist() for person in people],
    )  # fmt: skip


def test_stopping_early_and_ik_controls_change_nothing(people, tmp_path):
    motion = read_motion(write_bvh(tmp_path / "walk.bvh")[0])
    before = snapshot(people)
    steps = play_motion(bpy.context.scene, people, motion, MotionOptions())
    while next(steps)[1] != people[1].name:
        pass
    assert len(bpy.data.actions) == len(before[0]) + 1
    steps.close()
    assert snapshot(people) == before
    people[1].rig.pose.bones["left_knee"].constraints.new("IK")
    with pytest.raises(RuntimeError, match="IK control"):
        apply(tmp_path / "walk.bvh")
    assert snapshot(people) == before
