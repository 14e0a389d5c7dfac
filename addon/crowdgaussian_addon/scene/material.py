# SPDX-License-Identifier: GPL-3.0-or-later
"""The one emission material of all splats, for Cycles and EEVEE alike.

Alpha is opacity * exp(-r^2 / 2) with r in standard deviations from the quad's centre, and nothing
below 1/255, as in the rasteriser of 3D Gaussian Splatting (Kerbl et al. 2023). Each quad mixes
Transparent and Emission by it, so a ray composites the quads it crosses front to back.
"""

import bpy

from .graph import Graph, Socket
from .splat_format import ALPHA_CUTOFF, COLOUR, CORNER

SPLAT_MATERIAL = "CrowdGaussian Splats v1"
_DECODED = "Scene Linear Colour"  # node names: the two sources of the emission's colour
_ENCODED = "sRGB Colour"
_EMISSION = "Emission"


def splat_material() -> bpy.types.Material:
    """The material shared by all people of a file; made on first use."""
    material = bpy.data.materials.get(SPLAT_MATERIAL)
    return material if material is not None else _build()


def set_scene_linear(material: bpy.types.Material, enabled: bool) -> None:
    """Choose whether the splats emit scene-linear light (True) or bare sRGB values (False)."""
    tree = material.node_tree
    source = tree.nodes[_DECODED].outputs[0] if enabled else tree.nodes[_ENCODED].outputs["Color"]
    tree.links.new(source, tree.nodes[_EMISSION].inputs["Color"])


def _build() -> bpy.types.Material:
    material = bpy.data.materials.new(SPLAT_MATERIAL)
    if material.node_tree is None:  # before Blender 5.0
        material.use_nodes = True
    material.surface_render_method = "DITHERED"
    material.use_backface_culling = False
    tree = material.node_tree
    tree.nodes.clear()
    graph = Graph(tree)
    colour = graph.node("ShaderNodeAttribute", attribute_name=COLOUR, name=_ENCODED)
    _decode_srgb(graph, colour.outputs["Color"]).node.name = _DECODED
    emission = graph.node("ShaderNodeEmission", name=_EMISSION)
    transparent = graph.call("ShaderNodeBsdfTransparent", {})
    alpha = _alpha(graph, colour.outputs["Alpha"])
    inputs = {0: alpha, 1: transparent, 2: emission.outputs[0]}
    output = graph.node("ShaderNodeOutputMaterial")
    graph.feed(output.inputs["Surface"], graph.call("ShaderNodeMixShader", inputs))
    set_scene_linear(material, False)
    return material


def _alpha(graph: Graph, opacity: Socket) -> Socket:
    corner = graph.node("ShaderNodeAttribute", attribute_name=CORNER).outputs["Vector"]
    square = graph.vector("DOT_PRODUCT", corner, corner)
    falloff = graph.math("EXPONENT", graph.math("MULTIPLY", square, -0.5))
    alpha = graph.math("MULTIPLY", opacity, falloff)
    return graph.math("MULTIPLY", alpha, graph.math("GREATER_THAN", alpha, ALPHA_CUTOFF))


def _decode_srgb(graph: Graph, encoded: Socket) -> Socket:
    """sRGB to linear, both branches of IEC 61966-2-1, joined by a very steep ramp."""
    dark = graph.scale(encoded, 1.0 / 12.92)
    bright = graph.scale(graph.vector("ADD", encoded, (0.055,) * 3), 1.0 / 1.055)
    bright = graph.vector("POWER", bright, (2.4,) * 3)
    above = graph.scale(graph.vector("SUBTRACT", encoded, (0.04045,) * 3), 1e6)
    above = graph.vector("MINIMUM", graph.vector("MAXIMUM", above, (0.0,) * 3), (1.0,) * 3)
    change = graph.vector("MULTIPLY", graph.vector("SUBTRACT", bright, dark), above)
    return graph.vector("ADD", dark, change)
