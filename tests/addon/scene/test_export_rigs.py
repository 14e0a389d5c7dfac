# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigs, motions and scene folders read back by Blender, our readers and Khronos' validator."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, random_pose, write_scene
from _support.blender.exporting import record, refused, start, turned_and_stretched
from crowdgaussian_addon.scene.export.splats import cast_person
from crowdgaussian_addon.scene.people import all_people, read_pose
from crowdgaussian_addon.scene.rig.armature import set_pose
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES, joint_names
from crowdgaussian_shared.geometry.skinning import pose_avatar, pose_body
from crowdgaussian_shared.motion.npz import read_motion_npz
from crowdgaussian_shared.motion.read import read_motion_bvh
from crowdgaussian_shared.scene.folder import SceneFolder

ROOT = Path(__file__).resolve().parents[3]
MODULES = ROOT / ".venv/node/node_modules"
FRAMES = range(1, 8)
need_validator = pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "gltf-validator").is_dir(),
    reason="the glTF validator is not installed; install node and npm, then scripts/setup.sh node",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    avatars = [make_avatar(200, 1, seed) for seed in (0, 1)]
    crowdgaussian_addon.register()
    yield write_scene(tmp_path_factory.mktemp("crowd") / "out", avatars, make_camera())
    crowdgaussian_addon.unregister()


@pytest.fixture
def crowd(folder):
    """Two people who move, one of them leaning and larger."""
    people = start(folder).people
    rng = np.random.default_rng(2)
    for person in people:
        for frame in (1, 4, 7):
            place = (0.3 * frame, 1.0, -4.0 + person.index)
            set_pose(person.rig, random_pose(rng, 0), place, frame=frame)
    people[0].rig.location = (1.0, 0.3, 0.0)
    people[0].rig.rotation_euler = (0.0, 0.1, 0.8)
    people[0].rig.scale = (1.2, 1.2, 1.2)
    bpy.context.scene.frame_set(2)
    return people


def joints_by_frame(rigs, frames, names=JOINT_NAMES) -> np.ndarray:
    """Where the joints are in the world.  # [T, P, 55, 3]"""
    seen = []
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        seen.append(
            [[rig.matrix_world @ rig.pose.bones[name].head for name in names] for rig in rigs]
        )
    return np.array(seen)


def body_points(body) -> np.ndarray:
    evaluated = body.evaluated_get(bpy.context.evaluated_depsgraph_get())
    world = evaluated.matrix_world
    return np.array([world @ v.co for v in evaluated.data.vertices])


def come_back(path: Path):
    """Import a file into an empty scene -> its armatures by name, its bodies by name."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    if path.suffix == ".fbx":
        bpy.ops.import_scene.fbx(filepath=str(path), anim_offset=0.0)
    else:
        bpy.ops.import_scene.gltf(filepath=str(path))
    objects = sorted(bpy.data.objects, key=lambda obj: obj.name)
    bodies = [o for o in objects if o.type == "MESH" and o.name.endswith("body")]
    return [o for o in objects if o.type == "ARMATURE"], bodies


@pytest.mark.parametrize("kind, names", [("FBX", "MIXAMO"), ("GLB", "SMPLX")])
def test_animated_rigs_come_back(crowd, tmp_path, kind, names):
    path = tmp_path / f"a.{kind.lower()}"
    before = record()
    bpy.ops.crowdgaussian.export_rigs(
        filepath=str(path), format=kind, names=names, animation=True, frame_start=FRAMES[0],
        frame_end=FRAMES[-1],
    )  # fmt: skip
    assert record() == before and os.listdir(tmp_path) == [path.name]
    wanted = joints_by_frame([person.rig for person in crowd], FRAMES)
    bpy.context.scene.frame_set(4)
    shapes = [body_points(person.body) for person in crowd]
    rigs, bodies = come_back(path)
    assert [rig.name for rig in rigs] == ["Person 000", "Person 001"]
    called = joint_names(names.lower())
    assert all(sorted(b.name for b in rig.data.bones) == sorted(called) for rig in rigs)
    np.testing.assert_allclose(joints_by_frame(rigs, FRAMES, called), wanted, atol=1e-4)
    bpy.context.scene.frame_set(4)
    for body, shape in zip(bodies, shapes, strict=True):
        distance = np.linalg.norm(body_points(body)[:, None] - shape[None], axis=2)
        assert distance.min(axis=1).max() < 1e-3 and distance.min(axis=0).max() < 1e-3


def test_a_pose_without_keys_is_exported_as_it_is_seen(crowd, tmp_path):
    """Also what inverse kinematics do, whose controls are not exported."""
    bpy.context.scene.frame_set(1)
    rig = crowd[1].rig
    rig.pose.bones["neck"].rotation_quaternion = (0.9, 0.3, 0.1, 0.0)
    rig.select_set(True)
    bpy.ops.crowdgaussian.add_ik()
    assert len(rig.data.bones) > 55
    target = next(b for b in rig.pose.bones if b.name not in JOINT_NAMES)
    target.location = (0.1, 0.15, -0.1)
    bpy.ops.object.select_all(action="DESELECT")
    bpy.context.view_layer.update()
    wanted = np.array([rig.matrix_world @ rig.pose.bones[name].head for name in JOINT_NAMES])
    before = record()
    bpy.ops.crowdgaussian.export_rigs(filepath=str(tmp_path / "a.fbx"), separate=True)
    assert record() == before
    rigs, _ = come_back(tmp_path / "a_Person_001.fbx")
    assert len(rigs) == 1 and len(rigs[0].data.bones) == 55
    np.testing.assert_allclose(joints_by_frame(rigs, [1])[0, 0], wanted, atol=1e-4)


@need_validator
def test_the_gltf_is_valid(crowd, tmp_path):
    path = tmp_path / "a.glb"
    bpy.ops.crowdgaussian.export_rigs(
        filepath=str(path), format="GLB", animation=True, frame_start=1, frame_end=3
    )
    done = subprocess.run(
        ["node", str(ROOT / "tests/node/validate.cjs"), str(path)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "CROWDGAUSSIAN_NODE": str(MODULES)},
    )
    issues = json.loads(done.stdout)[str(path)]
    assert issues["numErrors"] == 0, issues["messages"]


@pytest.mark.parametrize("unit, height", [("CENTIMETRES", 100.0), ("METRES", 1.0)])
def test_a_bvh_has_the_unit_that_is_asked_for(crowd, tmp_path, unit, height):
    path = tmp_path / "m_Person_001.bvh"
    bpy.ops.crowdgaussian.export_motion(
        filepath=str(tmp_path / "m"), format="BVH", unit=unit, frame_start=1, frame_end=1
    )
    bones = [line.split()[1:] for line in path.read_text().splitlines() if "OFFSET" in line][1:]
    longest = max(np.linalg.norm([float(v) for v in bone]) for bone in bones)
    assert 0.25 * height < longest < 0.7 * height  # of a thigh or a shin


@pytest.mark.parametrize("kind", ["NPZ", "BVH"])
def test_motions_come_back_to_a_tenth_of_a_degree(crowd, tmp_path, kind):
    before = record()
    bpy.ops.crowdgaussian.export_motion(
        filepath=str(tmp_path / "m"), format=kind, frame_start=FRAMES[0], frame_end=FRAMES[-1]
    )
    assert record() == before
    for person in crowd:
        path = tmp_path / f"m_Person_00{person.index}.{kind.lower()}"
        motion = (read_motion_npz if kind == "NPZ" else read_motion_bvh)(path)
        assert motion.frames == len(FRAMES) and motion.fps == bpy.context.scene.render.fps
        for number, frame in enumerate(FRAMES):
            bpy.context.scene.frame_set(frame)
            pose, _ = read_pose(person.rig)
            wanted = axis_angle_to_matrix(pose)
            read = axis_angle_to_matrix(motion.poses[number])
            cosine = (np.einsum("jab,jab->j", read, wanted) - 1) / 2
            assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 0.1


def test_a_scene_folder_is_the_same_people(crowd, folder, tmp_path):
    """Also those who were moved, turned and enlarged; colours, weights and the camera too."""
    wanted = [cast_person(person).posed() for person in all_people(bpy.context.scene)]
    before = record()
    bpy.ops.crowdgaussian.export_scene(filepath=str(tmp_path / "again"))
    assert record() == before
    again = SceneFolder.open(tmp_path / "again")
    assert again.info.models == folder.info.models and again.info.commercial_use
    assert again.photo_path.read_bytes() == folder.photo_path.read_bytes()
    np.testing.assert_allclose(again.info.camera.K, folder.info.camera.K, atol=1e-3)
    np.testing.assert_allclose(again.info.camera.viewmat, folder.info.camera.viewmat, atol=1e-5)
    bodies = [body_points(person.body) for person in crowd]
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.crowdgaussian.import_scene(directory=str(again.path))
    people = all_people(bpy.context.scene)
    for index, cloud in enumerate(wanted):
        avatar = again.read_avatar(index)
        now = pose_avatar(avatar)
        np.testing.assert_allclose(now.means, cloud.means, atol=1e-4)
        np.testing.assert_allclose(now.scales, cloud.scales, rtol=1e-3)
        np.testing.assert_allclose(now.sh, cloud.sh, atol=1 / 255)
        np.testing.assert_array_equal(avatar.skin_joints.shape, (200, 4))
        seen = cast_person(all_people(bpy.context.scene)[index]).posed()
        np.testing.assert_allclose(seen.means, cloud.means, atol=1e-4)
        shape = pose_body(avatar)[:, [0, 2, 1]] * (1, -1, 1)
        np.testing.assert_allclose(shape, bodies[index], atol=1e-4)
        np.testing.assert_allclose(body_points(people[index].body), bodies[index], atol=1e-4)


def test_refusals(crowd, tmp_path):
    operators = bpy.ops.crowdgaussian
    for operator in (operators.export_rigs, operators.export_motion):
        said = refused(operator, filepath="/proc/none/a", frame_start=1, frame_end=1)
        assert "/proc/none" in said and "cannot be written" in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    said = refused(operators.export_scene, filepath=str(tmp_path / "full"))
    assert "not empty" in said and os.listdir(tmp_path) == ["full"]
    bpy.context.scene.camera = None
    said = refused(operators.export_scene, filepath=str(tmp_path / "new"))
    assert "no perspective camera" in said and os.listdir(tmp_path) == ["full"]
    crowd[0].rig.data.bones["left_knee"].name = "knie"
    for operator in (operators.export_rigs, operators.export_motion, operators.export_splats):
        said = refused(operator, filepath=str(tmp_path / "a"))
        assert "left_knee" in said and os.listdir(tmp_path) == ["full"]


def test_a_deleted_body_or_splats_are_named(crowd, tmp_path):
    turned_and_stretched(crowd[1].rig)
    bpy.data.objects.remove(crowd[1].body)
    said = refused(bpy.ops.crowdgaussian.export_scene, filepath=str(tmp_path / "s"))
    assert said.startswith("Person 001 has no body mesh any more")
    bpy.data.objects.remove(crowd[1].splats)
    said = refused(bpy.ops.crowdgaussian.export_splats, filepath=str(tmp_path / "a"))
    assert said.startswith("Person 001 has no splats any more") and not os.listdir(tmp_path)
