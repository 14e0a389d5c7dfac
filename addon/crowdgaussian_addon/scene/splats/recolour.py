# SPDX-License-Identifier: GPL-3.0-or-later
"""Skin, hair, clothes and shoes of a splat mesh: stored per splat, selected, given other colours.

A change of colours is an affine map of sRGB values. It reaches the view-dependent bands too: they
add to the colour, so its linear part turns them exactly.
"""

from dataclasses import dataclass

import bpy
import numpy as np
from crowdgaussian_shared.geometry.avatar import MATERIALS, Materials

from ..attributes import read_attribute, values_of, write_attribute
from .material import COLOUR, CONFIDENCE, MATERIAL, MAX_COEFFICIENTS, SH_PREFIX, SOLID

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601: how bright sRGB values look
# The axes of hue beside it, I and Q of the same standard's predecessor (NTSC).
_CHROMA = np.array([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_DARK = 0.25  # brightness below which cloth counts as this bright, or its noise would show


@dataclass(frozen=True)
class ColorChange:
    """What becomes of a colour c: linear @ c + offset, sRGB values."""

    linear: np.ndarray  # [3, 3]
    offset: np.ndarray  # [3]

    @classmethod
    def to_colour(cls, colour: np.ndarray, median: float) -> "ColorChange":
        """One colour in the light and shade that was there.

        Args:
            colour: [3] sRGB that the splats of median brightness get.
            median: brightness of the splats now, 0..1.
        """
        gain = 1 / max(median, _DARK)
        return cls(gain * np.outer(colour, _LUMA), colour * (1 - gain * median))

    @classmethod
    def shift(cls, hue: float, saturation: float, value: float) -> "ColorChange":
        """Another hue (in turns), saturation and brightness (factors); patterns stay."""
        axes = np.vstack([_LUMA, _CHROMA])
        cos, sin = np.cos(2 * np.pi * hue), np.sin(2 * np.pi * hue)
        turn = np.array([[1, 0, 0], [0, saturation * cos, -saturation * sin],
                         [0, saturation * sin, saturation * cos]])  # fmt: skip
        return cls(value * np.linalg.inv(axes) @ turn @ axes, np.zeros(3))


def write_materials(mesh: bpy.types.Mesh, materials: Materials | None) -> None:
    """Store what each splat shows; nothing when nobody has told."""
    if materials is not None:
        write_attribute(mesh, MATERIAL, "INT", "FACE", materials.label)
        write_attribute(mesh, CONFIDENCE, "FLOAT", "FACE", materials.confidence)


def has_materials(mesh: bpy.types.Mesh) -> bool:
    """Whether the mesh says what its splats show; cheap enough to draw a panel by."""
    return MATERIAL in mesh.attributes and CONFIDENCE in mesh.attributes


def read_materials(mesh: bpy.types.Mesh) -> Materials | None:
    """What each splat shows; None if the mesh does not say so."""
    label, confidence = read_attribute(mesh, MATERIAL), read_attribute(mesh, CONFIDENCE)
    if label is None or confidence is None or len(label) != len(mesh.polygons):
        return None
    label = np.where((label >= 0) & (label < len(MATERIALS)), label, 0)  # as edited by hand
    return Materials(label.astype(np.uint8), np.clip(confidence, 0, 1).astype(np.float32))


def showing(mesh: bpy.types.Mesh, material: str, least: float = 0.0) -> np.ndarray:
    """The splats that show a material at least so surely; none in a mesh without.  # [N] bool"""
    materials = read_materials(mesh)
    if materials is None:
        return np.zeros(len(mesh.polygons), bool)
    return (materials.label == MATERIALS.index(material)) & (materials.confidence >= least)


def select_faces(mesh: bpy.types.Mesh, chosen: np.ndarray) -> None:
    """Select the quads of some splats [N] bool and nothing else, for Edit Mode."""
    vertices = np.zeros(len(mesh.vertices), bool)
    vertices[_corners(mesh)[np.repeat(chosen, 4)]] = True
    ends = np.empty(2 * len(mesh.edges), np.int32)
    mesh.edges.foreach_get("vertices", ends)
    mesh.vertices.foreach_set("select", vertices)
    mesh.edges.foreach_set("select", vertices[ends[::2]] & vertices[ends[1::2]])
    mesh.polygons.foreach_set("select", chosen)
    mesh.update()


def brightness(mesh: bpy.types.Mesh, chosen: np.ndarray) -> float:
    """The median of some splats [N] bool, 0..1."""
    return float(np.median(read_attribute(mesh, COLOUR)[chosen, :3] @ _LUMA))


def recolour(mesh: bpy.types.Mesh, chosen: np.ndarray, change: ColorChange) -> None:
    """Change the colours of some splats [N] bool."""
    look = read_attribute(mesh, COLOUR)
    changed = look[chosen, :3] @ change.linear.T + change.offset
    look[chosen, :3] = np.clip(changed, 0, 1)
    write_attribute(mesh, COLOUR, "FLOAT_COLOR", "FACE", look)
    write_solid(mesh, look)
    for k in range(1, MAX_COEFFICIENTS):
        band = read_attribute(mesh, f"{SH_PREFIX}{k}")
        if band is None:
            break
        band[chosen] = band[chosen] @ change.linear.T
        write_attribute(mesh, f"{SH_PREFIX}{k}", "FLOAT_VECTOR", "FACE", band)
    mesh.update()


def write_solid(mesh: bpy.types.Mesh, look: np.ndarray) -> None:
    """The colours that Solid shading shows with Color set to Attribute: whole cards, no opacity.

    Args:
        mesh: of N splats.
        look: [N, 4] sRGB values of degree 0, and opacity.
    """
    if len(mesh.loops) != 4 * len(look):  # edited by hand: no quads any more
        return
    colours = np.ones((len(mesh.vertices), 4), np.float32)
    colours[_corners(mesh), :3] = np.repeat(np.clip(look[:, :3], 0, 1), 4, axis=0)
    write_attribute(mesh, SOLID, "BYTE_COLOR", "POINT", colours)
    mesh.attributes.active_color_name = mesh.attributes.default_color_name = SOLID


def _corners(mesh: bpy.types.Mesh) -> np.ndarray:
    """The vertex of each face corner.  # [4 N] int32"""
    corners = np.empty(len(mesh.loops), np.int32)
    values_of(mesh.attributes[".corner_vert"]).foreach_get("value", corners)
    return corners
