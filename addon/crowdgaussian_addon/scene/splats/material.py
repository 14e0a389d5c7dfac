# SPDX-License-Identifier: GPL-3.0-or-later
"""The materials of all splats, for Cycles and EEVEE alike: one that glows, one that is lit.

Alpha is opacity * exp(-r^2 / 2) with r in standard deviations from the quad's centre, and nothing
below 1/255, as in the rasteriser of 3D Gaussian Splatting (Kerbl et al. 2023). Each quad mixes
Transparent and its surface by it, so a ray composites the quads it crosses front to back.

The glowing material emits the avatar's colours as they are: the light of the photo. The lit one
takes them for the colour of a matt surface whose normal is that of the body underneath, so that the
scene's lights shade people.
"""

import bpy

from .nodes.graph import Graph, Socket

# What a splat mesh carries: the names and meanings of its attributes, in one table

VERSION = 2  # of the materials
VERSION_KEY = "crowdgaussian_version"  # property of materials and node groups

CORNER = "splat_corner"  # POINT FLOAT_VECTOR: corner of the quad in standard deviations, z unused
COLOUR = "splat_colour"  # FACE FLOAT_COLOR: sRGB values of degree 0, and opacity as alpha
SOLID = "splat_solid"  # POINT BYTE_COLOR: the same sRGB values, for viewports in Solid shading
ROTATION = "splat_rotation"  # FACE QUATERNION: canonical rotation in Blender's axes
SCALE = "splat_scale"  # FACE FLOAT_VECTOR: canonical standard deviations, metres
SH_PREFIX = "splat_sh_"  # FACE FLOAT_VECTOR, splat_sh_1..15: the higher bands in Blender's axes
JOINT = "splat_joint_"  # FACE INT8, splat_joint_0..3: the joints that carry it
WEIGHTS = "splat_weights"  # FACE FLOAT_COLOR: how much each does; or vertex groups of their names
NORMAL = "splat_normal"  # FACE FLOAT_VECTOR: S R^T n of the body's rest normal n, for lights
MATERIAL = "splat_material"  # FACE INT: what it shows, a place in MATERIALS of shared avatar.py
CONFIDENCE = "splat_material_confidence"  # FACE FLOAT: how sure that is, 0..1
SHADED_NORMAL = "splat_shaded_normal"  # made by the nodes: the skinned normal, object space

# What is stored is a multiple of these: finer than anything shows, and a saved crowd takes 25 MB
# instead of 31 (six people of 37,500, measured on the sample).
TIP_STEP = 2.0**-16  # metres, of the quads' tips: 15 micrometres, the thinnest splats have 600;
# centres are exact, as Cycles loses one of two quads in exactly the same depth
SIZE_STEP = 2.0**-18  # metres, of canonical standard deviations
LOOK_STEP = 2.0**-11  # of colours, opacities and rotations: an 8th of an 8-bit step
SURE_STEP = 2.0**-8  # of how sure a material is
REACH_STEP = 2.0**-6  # standard deviations, of the quads' corners; rounded up, as alpha ends inside

SLOTS = 4  # joints of a splat
MAX_COEFFICIENTS = 16  # of spherical harmonics of degree 3
MIN_SCALE = 1e-4  # metres: thinner axes lose their direction in float32
ALPHA_CUTOFF = 1.0 / 255.0


SPLAT_MATERIAL = f"CrowdGaussian Splats v{VERSION}"
LIT_MATERIAL = f"CrowdGaussian Lit Splats v{VERSION}"
LIT_KEY = "crowdgaussian_lit"  # property of our materials
_DECODED = "Scene Linear Colour"  # node names: the two sources of the surface's colour
_ENCODED = "sRGB Colour"
_SURFACE = "Surface"


def splat_material(lit: bool = False) -> bpy.types.Material:
    """The material shared by all people of a file; made on first use."""
    present = {bool(material.get(LIT_KEY)): material for material in splat_materials()}
    if lit in present:
        return present[lit]
    material = _build(lit)
    _connect_colour(material, any(is_scene_linear(other) for other in present.values()))
    return material


def splat_materials() -> list[bpy.types.Material]:
    """Those of this version that are in the file."""
    return [
        material
        for material in bpy.data.materials
        if material.library is None and material.get(VERSION_KEY) == VERSION
    ]


def set_scene_linear(enabled: bool) -> None:
    """Choose whether splats mean scene-linear light (True) or bare sRGB values (False)."""
    for material in splat_materials() or [splat_material()]:
        _connect_colour(material, enabled)


def set_blended(enabled: bool) -> None:
    """EEVEE: blended (smooth, needs depth sorting) or dithered."""
    for material in splat_materials() or [splat_material()]:
        material.surface_render_method = "BLENDED" if enabled else "DITHERED"


def is_scene_linear(material: bpy.types.Material) -> bool:
    """Whether a material of this or an older version decodes its colours."""
    for node in material.node_tree.nodes:
        if node.type in ("EMISSION", "BSDF_DIFFUSE"):
            links = node.inputs["Color"].links
            return bool(links) and links[0].from_node.name == _DECODED
    return False


def _build(lit: bool) -> bpy.types.Material:
    material = bpy.data.materials.new(LIT_MATERIAL if lit else SPLAT_MATERIAL)
    material[VERSION_KEY], material[LIT_KEY] = VERSION, lit
    if material.node_tree is None:  # before Blender 5.0
        material.use_nodes = True
    material.surface_render_method = "DITHERED"
    material.use_backface_culling = False
    tree = material.node_tree
    tree.nodes.clear()
    graph = Graph(tree)
    colour = graph.node("ShaderNodeAttribute", attribute_name=COLOUR)
    encoded = graph.vector("MAXIMUM", colour.outputs["Color"], (0.0,) * 3)
    encoded.node.name = _ENCODED
    _decode_srgb(graph, encoded).node.name = _DECODED
    alpha = _alpha(graph, colour.outputs["Alpha"])
    transparent = graph.call("ShaderNodeBsdfTransparent", {})
    (_matt if lit else _glow)(graph, encoded, alpha, transparent)
    return material


def _connect_colour(material: bpy.types.Material, linear: bool) -> None:
    tree = material.node_tree
    source = tree.nodes[_DECODED if linear else _ENCODED].outputs[0]
    for node in tree.nodes:
        if node.label == _SURFACE:
            tree.links.new(source, node.inputs["Color"])


def _glow(graph: Graph, encoded: Socket, alpha: Socket, transparent: Socket) -> None:
    emission = graph.call("ShaderNodeEmission", {"Color": encoded})
    emission.node.label = _SURFACE
    _finish(graph, alpha, transparent, emission)


def _matt(graph: Graph, encoded: Socket, alpha: Socket, transparent: Socket) -> None:
    """Diffuse about the mesh's normals, which the splat nodes take from the body."""
    diffuse = graph.call("ShaderNodeBsdfDiffuse", {"Color": encoded})
    diffuse.node.label = _SURFACE
    _finish(graph, alpha, transparent, diffuse)


def _finish(graph: Graph, alpha: Socket, transparent: Socket, surface: Socket) -> None:
    inputs = {0: alpha, 1: transparent, 2: surface}
    output = graph.node("ShaderNodeOutputMaterial")
    graph.feed(output.inputs["Surface"], graph.call("ShaderNodeMixShader", inputs))


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
