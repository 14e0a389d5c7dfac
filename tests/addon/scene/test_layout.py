# SPDX-License-Identifier: Apache-2.0
"""Ground contact, distances, headings, overlaps, scattered copies, the match with the photo."""

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, write_scene
from crowdgaussian_addon.ops import state
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.layout import transform as placing
from crowdgaussian_addon.scene.layout.overlap import convex_hull, disc, overlap, resolve_overlaps
from crowdgaussian_addon.scene.layout.transform import ground_heights, posed_points
from crowdgaussian_addon.scene.people import all_people, read_pose
from crowdgaussian_addon.scene.render.photo_match import IMAGE
from crowdgaussian_addon.scene.splats.build import set_footprint
from crowdgaussian_shared.geometry.axes import scene_to_blender
from crowdgaussian_shared.geometry.skinning import pose_body

OPS = bpy.ops.crowdgaussian


@pytest.fixture
def crowd(empty_blender, scene_folder):
    state.close_session()
    crowdgaussian_addon.register()
    import_scene(scene_folder)
    yield all_people(bpy.context.scene)
    crowdgaussian_addon.unregister()


def add_terrain():
    """A wavy mesh below the people."""
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=40, y_subdivisions=40, size=20)
    terrain = bpy.context.object
    for vertex in terrain.data.vertices:
        vertex.co.z = 0.3 * np.sin(vertex.co.x) + 0.1 * vertex.co.y
    terrain.name = "Terrain"
    terrain.select_set(False)
    bpy.context.view_layer.update()
    return terrain


def places(people):
    bpy.context.view_layer.update()
    return np.array([placing.place_of(person) for person in people])


def headings(people):
    bpy.context.view_layer.update()
    return np.array([placing.facing_of(person) for person in people])


def everything():
    """What an operator that fails must leave alone."""
    return {obj.name: tuple(np.ravel(obj.matrix_basis)) for obj in bpy.data.objects}


def test_posed_points_are_the_skinned_body(crowd, avatars):
    for person, avatar in zip(crowd, avatars):
        np.testing.assert_allclose(
            posed_points(person), scene_to_blender(pose_body(avatar)), atol=1e-4
        )


def test_soles_touch_flat_and_uneven_ground_without_sinking_in(crowd):
    before = places(crowd)
    assert OPS.snap_to_ground() == {"FINISHED"}
    for person in crowd:
        assert abs(posed_points(person)[:, 2].min()) < 1e-4
    terrain = add_terrain()
    assert OPS.snap_to_ground(ground="Terrain") == {"FINISHED"}
    heights = ground_heights(terrain)
    for person in crowd:
        points = posed_points(person)
        gaps = points[:, 2] - heights(points + (0, 0, 5))
        assert abs(gaps.min()) < 1e-3
    np.testing.assert_allclose(places(crowd)[:, :2], before[:, :2], atol=1e-5)


def test_spreading_keeps_headings_and_heights(crowd):
    before, facing = places(crowd), headings(crowd)
    OPS.spread(factor=2.0)
    after = places(crowd)
    np.testing.assert_allclose(
        after[1, :2] - after[0, :2], 2 * (before[1] - before[0])[:2], atol=1e-5
    )
    np.testing.assert_allclose(after[:, 2], before[:, 2], atol=1e-6)
    np.testing.assert_allclose(headings(crowd), facing, atol=1e-5)


def test_people_turn_to_camera_and_objects_on_the_spot(crowd):
    before = places(crowd)
    target = bpy.data.objects.new("Stage", None)
    bpy.context.scene.collection.objects.link(target)
    target.location = (3.0, -2.0, 1.0)
    for options, place in (
        ({"towards": "OBJECT", "target": "Stage"}, (3.0, -2.0)),
        ({"towards": "CAMERA"}, bpy.context.scene.camera.location.xy),
    ):
        OPS.face(**options)
        x, y = (np.array(place) - before[:, :2]).T
        np.testing.assert_allclose(headings(crowd), np.arctan2(x, -y), atol=1e-4)
        np.testing.assert_allclose(places(crowd), before, atol=1e-4)


def test_overlaps_end_with_small_moves_and_nobody_changes_sides(crowd):
    OPS.spread(factor=0.05)
    before = places(crowd)
    OPS.resolve_overlaps(gap=0.02)
    after = places(crowd)
    hulls = [convex_hull(posed_points(person)[:, :2]) for person in crowd]
    towards = (after[1] - after[0])[:2]
    assert np.linalg.norm(overlap(hulls[0], hulls[1], towards, 0.0)) < 1e-3
    assert (before[1] - before[0])[:2] @ towards > 0
    np.testing.assert_allclose(after[:, 2], before[:, 2], atol=1e-6)


def test_overlap_moves_are_the_shortest_and_spare_who_is_chosen_to_stay():
    centres = np.array([[0.0, 0.0], [0.5, 0.0], [3.0, 0.0]])
    discs = [disc(c, 0.3) for c in centres]
    moves, solved = resolve_overlaps(discs, centres, np.array([False, True, True]), gap=0.1)
    assert solved
    np.testing.assert_allclose(moves, [[0, 0], [0.2, 0], [0, 0]], atol=0.05)
    crowded = np.zeros((6, 2))
    moves, solved = resolve_overlaps([disc(c, 0.3) for c in crowded], crowded, np.ones(6, bool), 0)
    distances = np.linalg.norm(moves[:, None] - moves[None], axis=2)
    assert solved and distances[np.triu_indices(6, 1)].min() > 0.59


WRONG = (
    (lambda: OPS.snap_to_ground(ground="nothing"), 'no object "nothing"'),
    (lambda: OPS.snap_to_ground(ground="Photo camera"), "Photo camera is not a mesh"),
    (lambda: OPS.snap_to_ground(ground="Island"), "is not above or below Island"),
    (lambda: OPS.face(towards="OBJECT"), "No object is chosen"),
    (lambda: OPS.face(towards="ACTIVE"), "Nobody is active"),
    (lambda: OPS.scatter(target="Photo camera"), "Photo camera is not a mesh"),
    (lambda: OPS.scatter(target="Wall"), "Wall has no face to stand on"),
    (lambda: OPS.scatter(over="CURVE", target="Island"), "Island is not a curve"),
    (lambda: OPS.scatter(over="CURVE", target="Nowhere"), "Nowhere has no length"),
)


def test_bad_input_is_told_in_one_sentence_and_changes_nothing(crowd):
    bpy.ops.mesh.primitive_plane_add(location=(90, 0, 0))
    bpy.context.object.name = "Island"
    bpy.ops.mesh.primitive_plane_add(rotation=(np.pi / 2, 0, 0))
    bpy.context.object.name = "Wall"
    bpy.context.object.select_set(False)
    curve = bpy.data.objects.new("Nowhere", bpy.data.curves.new("Nowhere", "CURVE"))
    bpy.context.scene.collection.objects.link(curve)
    before = everything()
    for wrong, sentence in WRONG:
        with pytest.raises(RuntimeError, match=sentence) as caught:
            wrong()
        assert "Traceback" not in str(caught.value)
        assert everything() == before


def test_a_person_whose_object_is_keyed_is_not_moved(crowd):
    crowd[1].rig.keyframe_insert("location", frame=1)
    before = everything()
    with pytest.raises(RuntimeError, match="Person 001's object is moved by keys"):
        OPS.spread()
    assert everything() == before


def test_renamed_people_are_laid_out_and_deleted_rigs_are_told(crowd):
    crowd[0].rig.name = crowd[0].rig.data.name = "Zoe"
    assert OPS.snap_to_ground() == {"FINISHED"}
    bpy.data.objects.remove(crowd[1].rig)
    crowd[1].splats.select_set(True)
    with pytest.raises(RuntimeError, match="Person 001's rig was deleted"):
        OPS.spread()


def copies():
    return [obj for obj in bpy.data.objects if obj.instance_type == "COLLECTION"]


def test_copies_stand_on_the_surface_share_meshes_and_vary(crowd):
    meshes = len(bpy.data.meshes)
    terrain = add_terrain()
    assert OPS.scatter(target="Terrain", count=30, variants=2, spacing=0.5) == {"FINISHED"}
    assert len(copies()) == 30 and len(bpy.data.meshes) == meshes + 1  # the terrain's
    assert len({copy.instance_collection for copy in copies()}) == 2 * len(crowd)
    spots = np.array([copy.location for copy in copies()])
    np.testing.assert_allclose(spots[:, 2], ground_heights(terrain)(spots + (0, 0, 5)), atol=1e-4)
    apart = np.linalg.norm(spots[:, None] - spots[None], axis=2)[np.triu_indices(30, 1)]
    assert apart.min() >= 0.5 - 1e-5
    assert len({round(copy.scale.x, 4) for copy in copies()}) > 10
    assert len(all_people(bpy.context.scene)) == len(crowd), "copies are no people"


def instanced_quads():
    """World corners of the quads of every mesh instance.  # list of [N, 4, 3]"""
    found = []
    for instance in bpy.context.evaluated_depsgraph_get().object_instances:
        if instance.is_instance and instance.object.type == "MESH":
            mesh, world = instance.object.data, np.array(instance.matrix_world)
            points = np.empty(3 * len(mesh.vertices), np.float32)
            mesh.vertices.foreach_get("co", points)
            found.append((points.reshape(-1, 3) @ world[:3, :3].T + world[:3, 3]).reshape(-1, 4, 3))
    return found


def test_copies_show_the_person_with_soles_on_the_spot(crowd):
    add_terrain()
    crowd[0].rig.select_set(True)  # after the terrain, which took the selection
    OPS.scatter(target="Terrain", count=1, variants=1, turn=0, size=0)
    copy = copies()[0]
    shown = instanced_quads()
    assert len(shown) == 1
    centres = shown[0].mean(axis=1)
    original = posed_points(crowd[0])
    height = original[:, 2].max() - original[:, 2].min()
    assert abs(centres[:, 2].min() - copy.location.z) < 0.12
    assert abs(centres[:, 2].max() - copy.location.z - height) < 0.15
    assert np.linalg.norm(centres.mean(axis=0)[:2] - np.array(copy.location)[:2]) < 0.25


def test_variants_are_ahead_in_time_and_bend_only_the_upper_body(crowd):
    scene, person = bpy.context.scene, crowd[0]
    scene.frame_start, scene.frame_end = 1, 30
    person.rig.pose.bones["left_knee"].rotation_quaternion = (0.8, 0.6, 0, 0)
    person.rig.pose.bones["left_knee"].keyframe_insert("rotation_quaternion", frame=20)
    add_terrain()
    person.rig.select_set(True)
    OPS.scatter(target="Terrain", count=4, variants=2, delay=8, seed=3)
    actors = {copy.instance_collection for copy in copies()}
    rigs = [next(o for o in actor.objects if o.type == "ARMATURE") for actor in actors]
    changed = next(rig for rig in rigs if rig.animation_data.nla_tracks)
    motion = changed.animation_data.nla_tracks["Motion"].strips[0]
    ahead = int(motion.action_frame_start) - 1
    assert 0 < ahead <= 8 and motion.action == person.rig.animation_data.action
    scene.frame_set(10 + ahead)
    wanted, _ = read_pose(person.rig)
    scene.frame_set(10)
    got, _ = read_pose(changed)
    legs = [1, 2, 4, 5, 7, 8]
    np.testing.assert_allclose(got[legs], wanted[legs], atol=1e-4)
    assert 0.01 < np.abs(got[[12, 15, 16, 17]] - wanted[[12, 15, 16, 17]]).max() < 1.0


def test_a_copy_becomes_a_person_of_their_own(crowd):
    curve = bpy.data.curves.new("Path", "CURVE")
    curve.dimensions = "3D"
    spline = curve.splines.new("POLY")
    spline.points.add(1)
    spline.points[1].co = (6, 0, 0, 1)
    path = bpy.data.objects.new("Path", curve)
    bpy.context.scene.collection.objects.link(path)
    crowd[0].rig.select_set(True)
    OPS.scatter(over="CURVE", target="Path", count=3, variants=1, turn=0, size=0, width=0)
    np.testing.assert_allclose(sorted(c.location.x for c in copies()), [1, 3, 5], atol=1e-5)
    crowd[0].rig.select_set(False)
    copy = max(copies(), key=lambda c: c.location.x)
    copy.select_set(True)
    OPS.make_real()
    people = all_people(bpy.context.scene)
    assert len(people) == len(crowd) + 1 and len(copies()) == 2
    made = next(p for p in people if p.rig not in {c.rig for c in crowd})
    assert made.splats.data == crowd[0].splats.data and made.rig.data != crowd[0].rig.data
    assert made.body is not None
    np.testing.assert_allclose(placing.place_of(made)[:2], (5, 0), atol=1e-4)
    assert abs(placing.facing_of(made) - np.pi / 2) < 1e-3, "facing where the curve leads"
    assert abs(posed_points(made)[:, 2].min()) < 1e-4


def test_match_check_measures_and_puts_every_setting_back(crowd):
    render, scene = bpy.context.scene.render, bpy.context.scene
    scene.camera = None
    render.resolution_x, render.filepath = 77, "//mine"
    assert OPS.match_photo(width=64) == {"FINISHED"}
    assert tuple(bpy.data.images[IMAGE].size) == (128, 48)
    assert (render.resolution_x, render.filepath, scene.camera) == (77, "//mine", None)
    assert not render.use_border
    pixels = np.empty(128 * 48 * 4, np.float32)
    bpy.data.images[IMAGE].pixels.foreach_get(pixels)
    sides = pixels.reshape(48, 128, 4)[..., :3]
    np.testing.assert_allclose(sides[:, :64], 128 / 255, atol=0.01)  # the photo is grey
    assert np.abs(sides[:, 64:] - 0.5).max() > 0.2, "somebody is in the render"
    OPS.match_photo(width=64, view="DIFFERENCE")
    assert tuple(bpy.data.images[IMAGE].size) == (64, 48)


def test_match_check_without_the_photo(crowd, scene_folder):
    scene_folder.photo_path.unlink()
    with pytest.raises(RuntimeError, match="is gone; put it back"):
        OPS.match_photo(width=64)
    assert IMAGE not in bpy.data.images


def test_undo_and_redo_work_in_one_step(crowd):
    before = places(crowd)
    bpy.ops.ed.undo_push(message="before")
    OPS.spread(factor=2.0)
    bpy.ops.ed.undo_push(message="spread")
    bpy.ops.ed.undo()
    np.testing.assert_allclose(places(all_people(bpy.context.scene)), before, atol=1e-5)


def test_discs_span_the_two_longer_axes_of_each_gaussian(crowd, tmp_path):
    avatar = make_avatar(40)
    avatar.gaussians.scales[:20] = 0.02  # balls
    avatar.gaussians.scales[20:] = (0.03, 0.001, 0.02)
    result = import_scene(write_scene(tmp_path / "more", [avatar], make_camera()))
    set_footprint(result.people[0].splats, 0.0)
    add_terrain()
    result.people[0].rig.select_set(True)
    OPS.scatter(target="Terrain", count=1, variants=1, size=0)
    quads = instanced_quads()[0]
    edges = np.linalg.norm([quads[:, 1] - quads[:, 0], quads[:, 3] - quads[:, 0]], axis=2)  # [2, N]
    reach = np.sqrt(2 * np.log(np.maximum(255 * avatar.gaussians.opacities, 1)))
    sizes = np.sort(edges / (2 * reach), axis=0)
    np.testing.assert_allclose(sizes[:, :20], 0.02, rtol=0.15)  # blended bones shrink a little
    np.testing.assert_allclose(np.median(sizes[:, 20:], axis=1), (0.02, 0.03), rtol=0.1)
