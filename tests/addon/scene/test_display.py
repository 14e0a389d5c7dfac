# SPDX-License-Identifier: Apache-2.0
"""Display levels, lights, native splats, engines: what the panel Display does."""

from types import SimpleNamespace

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, random_pose, write_scene
from _support.blender.ewa_reference import render
from _support.blender.fake_layout import FakeLayout
from _support.blender.open_body_people import open_body_avatar
from crowdgaussian_addon.scene import static_splats as native
from crowdgaussian_addon.scene.attributes import read_attribute, read_positions
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.people import all_people, read_avatar
from crowdgaussian_addon.scene.render.display import level_of, reduced_of, set_level
from crowdgaussian_addon.scene.render.relight import has_normals, is_lit, set_lit
from crowdgaussian_addon.scene.render.settings import engine_of, set_engine
from crowdgaussian_addon.scene.rig.armature import set_pose
from crowdgaussian_addon.scene.rig.body import cast_shadows
from crowdgaussian_addon.scene.roster import delete_person
from crowdgaussian_addon.scene.splats.build import get_inputs, read_gaussians, splat_modifier
from crowdgaussian_addon.scene.splats.edit import GROUP, reduce_gaussians
from crowdgaussian_addon.scene.splats.material import (
    LOOK_STEP,
    SHADED_NORMAL,
    SIZE_STEP,
    splat_material,
)
from crowdgaussian_addon.scene.splats.nodes.project import INPUT_DEPTH_SORT, INPUT_MAX_SIZE
from crowdgaussian_addon.scene.splats.nodes.skin import can_skin
from crowdgaussian_addon.ui.display import CROWDGAUSSIAN_PT_display
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.axes import convert_gaussians, convert_points
from crowdgaussian_shared.geometry.rotations import quat_to_matrix
from crowdgaussian_shared.geometry.sh import SH_C0
from crowdgaussian_shared.geometry.skinning import joint_transforms, pose_avatar

BOTH = ("VIEWPORT", "RENDER")
STEPS = {  # what is stored of people without harmonics is a multiple of these
    "means": 3e-7, "quats": 2 * LOOK_STEP, "scales": SIZE_STEP, "opacities": LOOK_STEP,
    "sh": LOOK_STEP / SH_C0,
}  # fmt: skip


@pytest.fixture
def people(empty_blender, scene_folder):
    import_scene(scene_folder)
    return all_people(empty_blender)


def evaluated_meshes(person):
    """Which of a person's meshes the viewport's depsgraph shows."""
    bpy.context.view_layer.update()
    shown = bpy.context.evaluated_depsgraph_get().objects
    names = {obj.name for obj in shown if obj.type == "MESH"}
    objects = {"FULL": person.splats, "REDUCED": reduced_of(person), "BODY": person.body}
    return {level for level, obj in objects.items() if obj is not None and obj.name in names}


@pytest.mark.parametrize("level", ["REDUCED", "BODY", "FULL"])
def test_a_level_shows_one_mesh_and_evaluates_no_other(people, level):
    set_level(people[0], level, ("VIEWPORT",))
    assert level_of(people[0], "VIEWPORT") == level
    assert level_of(people[0], "RENDER") == "FULL"
    assert level_of(people[1], "VIEWPORT") == "FULL"
    assert evaluated_meshes(people[0]) == {level}
    set_level(people[0], "FULL", BOTH)
    assert evaluated_meshes(people[0]) == {"FULL"}


def test_renders_have_their_own_level_and_keep_shadows(people):
    cast_shadows([people[0].body], True)
    for level in ("BODY", "REDUCED", "FULL"):
        set_level(people[0], level, ("RENDER",))
        assert level_of(people[0], "RENDER") == level
        assert level_of(people[0], "VIEWPORT") == "FULL"
        assert people[0].body.visible_camera == (level == "BODY")
        assert not people[0].body.hide_render  # it still throws the shadow


def test_reading_back_does_not_depend_on_the_level(people, avatars):
    for level in ("REDUCED", "BODY"):
        set_level(people[0], level, BOTH)
        found = read_gaussians(people[0].splats)
        for name, step in STEPS.items():
            expected = getattr(avatars[0].gaussians, name)
            np.testing.assert_allclose(getattr(found, name), expected, atol=step)


def test_edited_splats_are_read_as_edited(people):
    mesh = people[0].splats.data
    before = read_gaussians(people[0].splats)
    points = read_positions(mesh)
    points[:4] = points[0] + 3 * (points[:4] - points[0]) + (0.5, 0, 0)
    mesh.attributes["position"].data.foreach_set("vector", points.ravel())
    after = read_gaussians(people[0].splats)
    np.testing.assert_allclose(after.scales[0], 3 * before.scales[0], rtol=1e-3)
    np.testing.assert_allclose(after.means[0], before.means[0] + (0.5, 0, 0), atol=1e-5)
    np.testing.assert_array_equal(after.scales[1:], before.scales[1:])


def test_reduced_splats_are_a_quarter_that_covers_the_same(avatars):
    avatar = avatars[0]
    kept, reduced = reduce_gaussians(avatar.gaussians)
    assert len(kept) == len(set(kept)) == -(-len(avatar.gaussians) // GROUP)
    camera = make_camera(96, 72)
    whole = render(pose_avatar(avatar), camera)
    parts = type(avatar)(**{**vars(avatar), "gaussians": reduced,
                            "skin_joints": avatar.skin_joints[kept],
                            "skin_weights": avatar.skin_weights[kept]})  # fmt: skip
    fewer = render(pose_avatar(parts), camera)
    inside = whole[1] > 0.9
    assert fewer[1][inside].mean() > 0.9
    assert -10 * np.log10(np.mean((fewer[0] - whole[0])[inside] ** 2)) > 17


def test_copies_share_the_reduced_mesh(people):
    set_level(people[0], "REDUCED", ("VIEWPORT",))
    first = reduced_of(people[0]).data
    bpy.data.objects.remove(reduced_of(people[0]))
    set_level(people[0], "REDUCED", ("VIEWPORT",))
    assert reduced_of(people[0]).data == first


def test_a_deleted_body_cannot_be_shown(people):
    bpy.data.objects.remove(people[0].body)
    person = all_people(bpy.context.scene)[0]
    with pytest.raises(CrowdGaussianError, match="body mesh of Person 000 were deleted"):
        set_level(person, "BODY", BOTH)
    assert level_of(person, "VIEWPORT") == "FULL"


def test_lit_splats_carry_the_posed_normals_of_the_body(empty_blender, tmp_path):
    avatar = open_body_avatar(600, seed=1)
    import_scene(write_scene(tmp_path / "out", [avatar], make_camera()))
    (person,) = all_people(empty_blender)
    set_lit(person, True)
    assert is_lit(person)
    bpy.context.view_layer.update()
    depsgraph = bpy.context.evaluated_depsgraph_get()
    evaluated = person.splats.evaluated_get(depsgraph)
    normals = read_attribute(evaluated.data, SHADED_NORMAL)
    normals = normals @ np.array(evaluated.matrix_world.to_3x3()).T
    person.body.hide_set(False)
    bpy.context.view_layer.update()
    body = person.body.evaluated_get(bpy.context.evaluated_depsgraph_get())
    posed = convert_gaussians(pose_avatar(avatar), "scene", "blender")
    local = (posed.means - np.array(body.matrix_world)[:3, 3]) @ np.array(body.matrix_world)[:3, :3]
    hits = [body.closest_point_on_mesh(point) for point in local.tolist()]
    expected = np.array([hit[2] for hit in hits]) @ np.array(body.matrix_world.to_3x3()).T
    assert np.median(np.sum(normals * expected, axis=1)) > 0.98
    set_lit(person, False)
    assert not is_lit(person) and not has_normals(person)
    assert person.splats.active_material == splat_material()


def test_glowing_splats_may_have_the_body_s_normals_for_a_pass(people):
    person = people[0]
    set_lit(person, False, normals=True)
    assert has_normals(person) and not is_lit(person)
    assert person.splats.active_material == splat_material()
    bpy.context.view_layer.update()
    evaluated = person.splats.evaluated_get(bpy.context.evaluated_depsgraph_get())
    stored = read_attribute(evaluated.data, SHADED_NORMAL)
    shading = np.array([corner.vector for corner in evaluated.data.corner_normals])[::4]
    assert np.median(np.sum(shading * stored, axis=1)) > 0.99
    set_lit(person, False)
    assert not has_normals(person)


def test_engines_are_set_up_for_splats(people):
    scene = bpy.context.scene
    set_engine(scene, "EEVEE")
    assert engine_of(scene) == "EEVEE"
    assert splat_material().surface_render_method == "BLENDED"
    assert all(get_inputs(splat_modifier(p.splats))[INPUT_DEPTH_SORT] for p in people)
    scene.cycles.min_transparent_bounces = 0
    set_engine(scene, "CYCLES")
    assert engine_of(scene) == "CYCLES"
    assert scene.cycles.min_transparent_bounces >= 32
    assert not any(get_inputs(splat_modifier(p.splats))[INPUT_DEPTH_SORT] for p in people)


@pytest.mark.skipif(
    bpy.app.version < (5, 2), reason="no FLOAT4 attributes before 5.2; .venv/blender-5.2 runs this"
)
def test_native_splats_hold_the_pose_and_the_world_transform(empty_blender, tmp_path):
    avatar = make_avatar(300, degree=3)
    import_scene(write_scene(tmp_path / "out", [avatar], make_camera()))
    (person,) = all_people(empty_blender)
    person.rig.location.x += 1.0
    person.rig.rotation_euler.z += 0.8
    bpy.context.view_layer.update()
    world = native.posed_in_world(person)
    cloud = native.make_native(world, "native").data
    evaluated = person.splats.evaluated_get(bpy.context.evaluated_depsgraph_get())
    seen = read_positions(evaluated.data).reshape(-1, 4, 3).mean(axis=1)
    matrix = np.array(evaluated.matrix_world)
    seen = seen @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(read_attribute(cloud, native.FORMAT.position), seen, atol=1e-4)
    base = read_attribute(cloud, native.FORMAT.base)
    np.testing.assert_allclose(base[:, :3], avatar.gaussians.sh[:, 0], atol=1e-5)
    np.testing.assert_allclose(base[:, 3], avatar.gaussians.opacities, atol=1e-6)
    lengths = np.linalg.norm(read_attribute(cloud, native.FORMAT.rotation), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
    assert f"{native.FORMAT.band}0" in cloud.attributes, "Blender reads from 0 until one is missing"
    assert f"{native.FORMAT.band}14" in cloud.attributes
    assert f"{native.FORMAT.band}15" not in cloud.attributes
    still = native.make_native(convert_gaussians(avatar.gaussians, "scene", "blender"), "still")
    rest = convert_points(avatar.gaussians.means, "scene", "blender")
    np.testing.assert_allclose(read_attribute(still.data, native.FORMAT.position), rest, atol=1e-6)


@pytest.mark.skipif(
    bpy.app.version < (5, 2), reason="no FLOAT4 attributes before 5.2; .venv/blender-5.2 runs this"
)
def test_blender_s_reader_counts_every_band_of_native_splats(empty_blender):
    """It reads radiance:sh_0, sh_1, ... until one is missing; the names are those of its source."""
    cloud = make_avatar(5, degree=3).gaussians
    mesh = native.make_native(cloud, "five").data
    bands = []
    while (band := read_attribute(mesh, f"radiance:sh_{len(bands)}")) is not None:
        bands.append(band)
    np.testing.assert_allclose(np.stack(bands, axis=1), cloud.sh[:, 1:], atol=1e-6)
    np.testing.assert_allclose(read_attribute(mesh, "scale"), cloud.scales, atol=1e-6)
    np.testing.assert_allclose(read_attribute(mesh, "rotation"), cloud.quats, atol=1e-6)


@pytest.mark.skipif(
    not can_skin(), reason="nodes cannot read bones before 5.2; .venv/blender-5.2 runs this"
)
def test_native_splats_follow_the_rig(people, avatars):
    person, avatar = people[0], avatars[0]
    obj = native.make_following(person)
    person.collection.objects.link(obj)
    pose = 2 * random_pose(np.random.default_rng(1), 1)
    person.rig.animation_data_clear()
    set_pose(person.rig, pose, avatar.transl)
    bpy.context.view_layer.update()
    evaluated = obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
    world = np.array(evaluated.matrix_world)
    wanted = convert_gaussians(pose_avatar(avatar, pose, avatar.transl), "scene", "blender")
    kept = [
        read_attribute(evaluated.data, name)
        for name in (native.FORMAT.position, native.FORMAT.rotation, native.FORMAT.scale)
    ]
    centres = kept[0] @ world[:3, :3].T + world[:3, 3]
    np.testing.assert_allclose(centres, wanted.means, atol=1e-4)
    turned = [quat_to_matrix(quats.astype(np.float64)) for quats in (kept[1], wanted.quats)]
    roots = [world[:3, :3] @ turned[0] * kept[2][:, None, :],
             turned[1] * wanted.scales[:, None, :]]  # fmt: skip
    got, expected = (root @ root.transpose(0, 2, 1) for root in roots)
    size = wanted.scales.max(axis=1)[:, None, None] ** 2
    np.testing.assert_allclose(got / size, expected / size, atol=5e-3)
    name = obj.name
    delete_person(next(p for p in all_people(bpy.context.scene) if p.rig == person.rig))
    assert name not in bpy.data.objects


def test_native_splats_are_refused_with_the_reason_where_there_are_none():
    if bpy.app.version < (5, 3):
        assert "5.3 or later" in native.why_not()
    else:
        assert native.why_not() == ""


def test_the_avatar_is_read_back_whole(people, avatars):
    found = read_avatar(people[1])
    moved = joint_transforms(found.rest_joints, found.pose, found.transl)
    wanted = joint_transforms(avatars[1].rest_joints, avatars[1].pose, avatars[1].transl)
    np.testing.assert_allclose(moved, wanted, atol=1e-5)
    means = avatars[1].gaussians.means
    np.testing.assert_allclose(found.gaussians.means, means, atol=STEPS["means"])


@pytest.fixture
def panel(people):
    """The add-on's classes, and what the sub-panel draws."""
    crowdgaussian_addon.register()

    def draw():
        layout = FakeLayout()
        panel = SimpleNamespace(layout=layout)
        CROWDGAUSSIAN_PT_display.draw_people(panel, bpy.context)
        return layout

    yield draw
    crowdgaussian_addon.unregister()


def test_the_panel_presses_what_is_shown(panel, people):
    assert bpy.ops.crowdgaussian.set_display(level="REDUCED", where="BOTH") == {"FINISHED"}
    assert bpy.ops.crowdgaussian.limit_splats(least=0.001, most=0.02) == {"FINISHED"}
    pressed = [call[2]["text"] for call in panel().calls
               if call[0] == "operator" and call[2].get("depress")]  # fmt: skip
    assert pressed == ["Reduced", "Reduced", "Cycles", "Photo", "Photo"]
    limits = [get_inputs(splat_modifier(reduced_of(p)))[INPUT_MAX_SIZE] for p in people]
    assert limits == pytest.approx([0.02, 0.02])
    with pytest.raises(RuntimeError, match="below the thinnest"):
        bpy.ops.crowdgaussian.limit_splats(least=0.02, most=0.01)


def test_buttons_that_cannot_work_are_grey(panel):
    assert not bpy.ops.crowdgaussian.upgrade_splats.poll()
    assert bpy.ops.crowdgaussian.convert_to_native.poll() == (native.why_not() == "")
    assert bpy.ops.crowdgaussian.set_display.poll()
    for obj in list(bpy.data.objects):
        bpy.data.objects.remove(obj)
    assert not bpy.ops.crowdgaussian.set_display.poll()
