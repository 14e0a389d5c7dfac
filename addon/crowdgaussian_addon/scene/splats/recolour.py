# SPDX-License-Identifier: GPL-3.0-or-later
"""Skin, hair, clothes and parts of the body: stored per splat, selected, recoloured, painted.

A change of colours is an affine map of sRGB values. It reaches the view-dependent bands too: they
add to the colour, so its linear part turns them exactly.
"""

from dataclasses import dataclass

import bpy
import numpy as np
from crowdgaussian_shared.geometry.avatar import MATERIALS, Materials
from crowdgaussian_shared.geometry.skeleton import PARTS, joint_parts

from ..attributes import read_attribute, rounded, values_of, write_attribute
from .material import (
    COLOUR,
    CONFIDENCE,
    MATERIAL,
    MAX_COEFFICIENTS,
    SH_PREFIX,
    SOLID,
    SURE_STEP,
)

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601: how bright sRGB values look
# The axes of hue beside it, I and Q of the same standard's predecessor (NTSC).
_CHROMA = np.array([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_BYTES = 255  # steps of the colours that are painted on
_UNPAINTED = 1  # of these steps: what rounding does to colours that nobody painted on
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

    @classmethod
    def plain(cls, colour: np.ndarray) -> "ColorChange":
        """One colour [3] without light and shade, as paint has it."""
        return cls(np.zeros((3, 3)), colour)

    def faded(self, mix: float) -> "ColorChange":
        """The share `mix` of this change, 0..1."""
        return ColorChange((1 - mix) * np.eye(3) + mix * self.linear, mix * self.offset)


def write_materials(mesh: bpy.types.Mesh, materials: Materials | None) -> None:
    """Store what each splat shows; nothing when nobody has told."""
    if materials is not None:
        write_attribute(mesh, MATERIAL, "INT", "FACE", materials.label)
        write_attribute(mesh, CONFIDENCE, "FLOAT", "FACE", rounded(materials.confidence, SURE_STEP))


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


def moved_by(part: str, joints: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The splats that one of PARTS moves more than any other.

    Args:
        part: of the body.
        joints: [N, 4] of the 55.
        weights: [N, 4] rows sum to 1.

    Returns:
        [N] bool.
    """
    of_joint = joint_parts()[joints]  # [N, 4]
    shares = [(weights * (of_joint == k)).sum(axis=1) for k in range(len(PARTS))]
    return np.argmax(shares, axis=0) == PARTS.index(part)


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
    """Change the colours of some splats [N] bool, on top of what was painted on them."""
    take_paint(mesh)
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


def take_paint(mesh: bpy.types.Mesh) -> int:
    """Give splats the paint that Vertex Paint put on their cards -> how many were painted.

    Vertex Paint works on the colours of Solid shading, four corners a splat; the splat gets the
    mean of their changes. View-dependent bands stay.
    """
    look, cards = read_attribute(mesh, COLOUR), read_attribute(mesh, SOLID)
    if look is None or len(mesh.loops) != 4 * len(look):
        return 0
    if cards is None or len(cards) != len(mesh.vertices):
        return 0
    before = np.round(np.clip(look[:, None, :3], 0, 1) * _BYTES)  # [N, 1, 3]
    change = np.round(cards[_corners(mesh), :3] * _BYTES).reshape(-1, 4, 3) - before
    painted = (np.abs(change) > _UNPAINTED).any(axis=(1, 2))
    if painted.any():
        changed = look[painted, :3] + change[painted].mean(axis=1) / _BYTES
        look[painted, :3] = np.clip(changed, 0, 1)
        write_attribute(mesh, COLOUR, "FLOAT_COLOR", "FACE", look)
        write_solid(mesh, look)
        mesh.update()
    return int(painted.sum())


def _corners(mesh: bpy.types.Mesh) -> np.ndarray:
    """The vertex of each face corner.  # [4 N] int32"""
    corners = np.empty(len(mesh.loops), np.int32)
    values_of(mesh.attributes[".corner_vert"]).foreach_get("value", corners)
    return corners
