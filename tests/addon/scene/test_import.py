# SPDX-License-Identifier: Apache-2.0
"""What an import leaves in the Blender file, and what it does with damaged scenes."""

import json
from pathlib import Path

import bpy
import numpy as np
import pytest
from crowdgaussian_addon.scene.importer import COMMERCIAL_USE, PROVENANCE, import_scene
from crowdgaussian_addon.scene.render.settings import set_render_mode
from crowdgaussian_addon.scene.splats.build import MODIFIER, set_depth_sort
from crowdgaussian_addon.scene.splats.nodes.project import SPLAT_NODES, splat_node_groups
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.scene.folder import SceneFolder


def test_collections_share_one_material_and_one_node_group(empty_blender, scene_folder):
    result = import_scene(scene_folder)
    assert result.collection.name == "Crowd made_up"
    assert [c.name for c in result.collection.children] == ["Person 000", "Person 001"]
    assert result.ground.name in result.collection.objects
    materials = {person.splats.active_material for person in result.people}
    groups = {person.splats.modifiers[MODIFIER].node_group for person in result.people}
    assert len(materials) == len(groups) == 1
    assert groups.pop().name == SPLAT_NODES
    import_scene(scene_folder)
    assert len(splat_node_groups()) == 1


def test_provenance_travels_with_the_collection(empty_blender, scene_folder):
    crowd = import_scene(scene_folder).collection
    assert json.loads(crowd[PROVENANCE])[0]["licence"] == "CC0-1.0"
    assert crowd[COMMERCIAL_USE]


def test_photo_camera_and_cycles_are_ready_to_render(empty_blender, scene_folder):
    result = import_scene(scene_folder)
    assert empty_blender.camera == result.camera
    image = result.camera.data.background_images[0].image
    assert Path(bpy.path.abspath(image.filepath)) == scene_folder.photo_path
    assert empty_blender.cycles.min_transparent_bounces >= 32
    assert empty_blender.cycles.transparent_max_bounces >= 128
    assert empty_blender.view_settings.view_transform == "Raw"
    set_render_mode(empty_blender, "linear")
    assert empty_blender.view_settings.view_transform == "Standard"


def test_failed_and_unfinished_people_are_skipped(empty_blender, scene_folder):
    scene_folder.fail_person(0, "The person could not be fitted; try another photo.")
    result = import_scene(scene_folder)
    assert [person.index for person in result.people] == [1]
    assert result.skipped == (
        "Person 0 was not reconstructed: The person could not be fitted; try another photo.",
    )


def test_damaged_avatar_is_skipped_with_the_reason(empty_blender, scene_folder):
    scene_folder.person_file(1, "avatar").write_bytes(b"not an archive")
    result = import_scene(scene_folder)
    assert [person.index for person in result.people] == [0]
    assert "avatar.npz" in result.skipped[0]


def test_a_scene_without_people_found_is_refused(empty_blender, scene_folder):
    scene_folder.update(camera=None)
    with pytest.raises(CrowdGaussianError, match="no camera yet"):
        import_scene(SceneFolder.open(scene_folder.path))
    assert not bpy.data.objects


def test_quads_face_the_active_camera(empty_blender, scene_folder):
    result = import_scene(scene_folder)
    splats = result.people[0].splats
    eye = np.array(result.camera.location)
    bpy.context.view_layer.update()
    points = evaluated_points(splats)
    centres = points.mean(axis=1)
    edges = points[:, 1] - points[:, 0], points[:, 3] - points[:, 0]
    normals = np.cross(*edges)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    towards = eye - centres
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    assert np.median(np.abs(np.sum(normals * towards, axis=1))) > 0.8


def test_depth_sort_orders_quads_from_far_to_near(empty_blender, scene_folder):
    result = import_scene(scene_folder)
    splats = [person.splats for person in result.people]
    set_depth_sort(splats, True)
    bpy.context.view_layer.update()
    forward = -np.array(result.camera.matrix_world)[:3, 2]
    depths = evaluated_points(splats[0]).mean(axis=1) @ forward
    assert (np.diff(depths) < 1e-4).all()


def evaluated_points(obj):
    """Corners of the evaluated quads in the world, in face order.  # [N, 4, 3]"""
    evaluated = obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = evaluated.data
    corners = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", corners)
    local = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", local)
    world = np.array(evaluated.matrix_world)
    points = local.reshape(-1, 3) @ world[:3, :3].T + world[:3, 3]
    return points[corners].reshape(-1, 4, 3)
