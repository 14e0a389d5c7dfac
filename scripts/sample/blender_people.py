# SPDX-License-Identifier: Apache-2.0
"""Bring the figures into Blender: bodies, garments, eyes and hair. Runs inside Blender."""

import json
from pathlib import Path

import bpy
import numpy as np

from . import blender_materials as materials


def _mesh(name: str, arrays, key: str) -> bpy.types.Mesh:
    """A smooth mesh with its UV map from figure arrays."""
    vertices, faces = arrays[f"{key}_vertices"], arrays[f"{key}_faces"]
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(vertices))
    mesh.vertices.foreach_set("co", vertices.astype(np.float32).ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", faces.astype(np.int32).ravel())
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    mesh.polygons.foreach_set("loop_total", np.full(len(faces), 3, dtype=np.int32))
    mesh.polygons.foreach_set("use_smooth", np.ones(len(faces), dtype=bool))
    if f"{key}_uv" in arrays:
        layer = mesh.uv_layers.new(name="UVMap")
        layer.data.foreach_set("uv", arrays[f"{key}_uv"].astype(np.float32).ravel())
    mesh.update()
    mesh.validate()
    return mesh


def _object(name: str, data, material, person: int) -> bpy.types.Object:
    data.materials.append(material)
    thing = bpy.data.objects.new(name, data)
    thing["person"] = person
    bpy.context.scene.collection.objects.link(thing)
    return thing


def _add_attribute(mesh, name: str, values: np.ndarray) -> None:
    kind = "FLOAT" if values.ndim == 1 else "FLOAT_COLOR"
    field = "value" if values.ndim == 1 else "color"
    layer = mesh.attributes.new(name, kind, "POINT")
    layer.data.foreach_set(field, values.astype(np.float32).ravel())


def _hair(name: str, strands: np.ndarray, radius: float) -> bpy.types.ID:
    """Hair curves, tapered to their tips.  # strands [n, k, 3]"""
    count, points = strands.shape[:2]
    curves = bpy.data.hair_curves.new(name)
    curves.add_curves([points] * count)
    curves.points.foreach_set("position", strands.astype(np.float32).ravel())
    taper = np.tile(np.linspace(1.0, 0.35, points, dtype=np.float32) * radius, count)
    layer = curves.attributes.get("radius") or curves.attributes.new("radius", "FLOAT", "POINT")
    layer.data.foreach_set("value", taper)
    return curves


def add_figure(folder: Path, person: int) -> None:
    """Everything of one person, from figure.json and arrays.npz."""
    figure = json.loads((folder / "figure.json").read_text())
    arrays = np.load(folder / "arrays.npz", allow_pickle=False)
    tag = f"person{person}"
    body = _mesh(f"{tag}_body", arrays, "body")
    _add_attribute(body, "scalp", arrays["body_scalp"])
    skin = materials.skin(f"{tag}_skin", str(folder / "skin.png"), figure["scalp_colour"])
    _object(f"{tag}_body", body, skin, person)
    eyes = _mesh(f"{tag}_eyes", arrays, "eyes")
    _add_attribute(eyes, "colour", arrays["eyes_colour"])
    _object(f"{tag}_eyes", eyes, materials.eye(f"{tag}_eye"), person)
    for piece in figure["pieces"]:
        name = f"{tag}_{piece['name']}"
        look = materials.cloth(name, str(folder / f"{piece['name']}.png"), piece["look"])
        _object(name, _mesh(name, arrays, piece["name"]), look, person)
    for lock in figure["hair"]:
        curves = _hair(f"{tag}_{lock['name']}", arrays[lock["name"]], lock["radius"])
        _object(
            f"{tag}_{lock['name']}",
            curves,
            materials.hair(f"{tag}_{lock['name']}", lock["colour"]),
            person,
        )
