# SPDX-License-Identifier: Apache-2.0
"""The place: a paved square before a lawn with trees, sun and sky, and the camera.

Runs inside Blender, in Blender's axes: z up, the camera looks along +y.
"""

import math
import random

import bpy

from . import blender_materials as materials


def add_mesh(name: str, vertices, faces, material) -> bpy.types.Object:
    """A mesh object from plain lists."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices, [], faces)
    mesh.materials.append(material)
    thing = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(thing)
    return thing


def _slab(name: str, low, high, material) -> bpy.types.Object:
    """An axis-aligned box."""
    corners = [
        (x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])
    ]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return add_mesh(name, corners, faces, material)


def _leaves(centres, per_blob: int, blob: float, size: float, rng) -> tuple[list, list]:
    """Loose quads scattered in blobs."""
    vertices: list = []
    faces: list = []
    for cx, cy, cz in centres:
        for _ in range(per_blob):
            direction = [rng.gauss(0, 1) for _ in range(3)]
            length = math.sqrt(sum(d * d for d in direction)) or 1.0
            reach = blob * rng.random() ** 0.4 / length
            x, y, z = (c + d * reach for c, d in zip((cx, cy, cz), direction, strict=True))
            a = [rng.gauss(0, 1) * size for _ in range(3)]
            b = [rng.gauss(0, 1) * size * 0.6 for _ in range(3)]
            start = len(vertices)
            vertices += [
                (x - a[0], y - a[1], z - a[2]),
                (x + b[0], y + b[1], z + b[2]),
                (x + a[0], y + a[1], z + a[2]),
                (x - b[0], y - b[1], z - b[2]),
            ]
            faces.append((start, start + 1, start + 2, start + 3))
    return vertices, faces


def _tree(name: str, seed: int, leaf_material, bark) -> list[bpy.types.Object]:
    """One tree at the origin: a trunk and a crown of leaves."""
    rng = random.Random(seed)
    centres = []
    for _ in range(46):
        angle, height = rng.random() * 6.283, rng.random()
        reach = 2.1 * math.sin(math.pi * (0.15 + 0.8 * height)) * rng.random() ** 0.5
        centres.append((reach * math.cos(angle), reach * math.sin(angle), 2.4 + 3.8 * height))
    crown = add_mesh(f"{name}_crown", *_leaves(centres, 210, 0.62, 0.075, rng), leaf_material)
    ring = [
        (0.16 * math.cos(k), 0.16 * math.sin(k)) for k in (2 * math.pi * i / 12 for i in range(12))
    ]
    vertices = [(x, y, 0.0) for x, y in ring] + [(x * 0.6, y * 0.6, 4.0) for x, y in ring]
    faces = [(i, (i + 1) % 12, 12 + (i + 1) % 12, 12 + i) for i in range(12)]
    return [crown, add_mesh(f"{name}_trunk", vertices, faces, bark)]


def _plant_trees() -> None:
    bark = materials.speckled("bark", (0.20, 0.15, 0.11), (0.36, 0.29, 0.23), 9.0)
    greens = (((0.20, 0.34, 0.10), (0.42, 0.52, 0.18)), ((0.14, 0.29, 0.12), (0.33, 0.45, 0.20)))
    kinds = [
        _tree(f"tree{k}", 11 + k, materials.leaf(f"leaf{k}", *green), bark)
        for k, green in enumerate(greens)
    ]
    rng = random.Random(4)
    spots = [
        (-9.5, 15),
        (-5.6, 19),
        (-1.4, 21),
        (3.2, 18),
        (7.4, 16),
        (11.5, 20),
        (-14, 22),
        (16, 24),
        (0.8, 27),
        (-8, 28),
        (8, 29),
    ]
    for index, (x, y) in enumerate(spots):
        scale = 0.85 + 0.5 * rng.random()
        for part in kinds[index % 2]:
            copy = part if index < 2 else part.copy()
            copy.location = (x, y, 0.0)
            copy.rotation_euler = (0, 0, rng.random() * 6.283)
            copy.scale = (scale, scale, scale)
            if index >= 2:
                bpy.context.scene.collection.objects.link(copy)


def _hedge() -> None:
    rng = random.Random(9)
    green = materials.leaf("hedge", (0.12, 0.25, 0.10), (0.28, 0.40, 0.16))
    centres = [
        (-13 + 0.22 * k, 12.6 + 0.25 * rng.random(), 0.25 + 0.55 * rng.random()) for k in range(118)
    ]
    add_mesh("hedge", *_leaves(centres, 300, 0.34, 0.026, rng), green)


def build_ground() -> None:
    """Paving in front, lawn behind, hedge, trees, and a house far away."""
    add_mesh(
        "paving",
        [(-30, -12, 0), (30, -12, 0), (30, 11.5, 0), (-30, 11.5, 0)],
        [(0, 1, 2, 3)],
        materials.paving(),
    )
    grass = materials.speckled("grass", (0.25, 0.36, 0.12), (0.42, 0.48, 0.20), 3.0)
    add_mesh(
        "lawn",
        [(-90, 11.5, -0.01), (90, 11.5, -0.01), (90, 120, -0.01), (-90, 120, -0.01)],
        [(0, 1, 2, 3)],
        grass,
    )
    stone = materials.speckled("kerb", (0.55, 0.53, 0.50), (0.66, 0.64, 0.60), 6.0)
    _slab("kerb", (-30, 11.4, 0.0), (30, 11.75, 0.14), stone)
    _slab("house", (-34, 46, 0), (6, 56, 13), materials.facade())
    _slab("house2", (12, 52, 0), (44, 60, 10), materials.facade())
    _hedge()
    _plant_trees()


def light(sun_strength: float = 3.6, sky_strength: float = 0.16) -> None:
    """Afternoon sun from behind the camera's left shoulder and a clear sky."""
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    bpy.context.scene.world = world
    nodes, links = world.node_tree.nodes, world.node_tree.links
    sky = nodes.new("ShaderNodeTexSky")
    sky.sky_type, sky.sun_disc = "NISHITA", False
    sky.sun_elevation, sky.sun_rotation = math.radians(38), math.radians(215)
    sky.dust_density = 1.6
    links.new(sky.outputs[0], nodes["Background"].inputs[0])
    nodes["Background"].inputs[1].default_value = sky_strength
    sun = bpy.data.lights.new("sun", "SUN")
    sun.energy, sun.angle, sun.color = sun_strength, math.radians(2.5), (1.0, 0.93, 0.84)
    thing = bpy.data.objects.new("sun", sun)
    thing.rotation_euler = (math.radians(48), 0, math.radians(-38))
    bpy.context.scene.collection.objects.link(thing)


def place_camera(camera: dict) -> None:
    """Camera from its 3x3 K, size in pixels, and its 4x4 Blender world matrix."""
    scene = bpy.context.scene
    data = bpy.data.cameras.new("camera")
    width, height = camera["width"], camera["height"]
    data.sensor_fit, data.sensor_width = "HORIZONTAL", 36.0
    data.lens = camera["K"][0][0] * 36.0 / width
    data.shift_x = (width / 2 - camera["K"][0][2]) / width
    data.shift_y = (camera["K"][1][2] - height / 2) / width
    data.dof.use_dof = True
    data.dof.focus_distance, data.dof.aperture_fstop = camera["focus"], camera["fstop"]
    data.clip_end = 500
    thing = bpy.data.objects.new("camera", data)
    scene.collection.objects.link(thing)
    from mathutils import Matrix

    thing.matrix_world = Matrix(camera["matrix_world"])
    scene.camera = thing
    scene.render.resolution_x, scene.render.resolution_y = width, height
