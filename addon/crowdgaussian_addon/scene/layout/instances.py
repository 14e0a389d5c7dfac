# SPDX-License-Identifier: GPL-3.0-or-later
"""Actors: posed people that many copies instance, so that copies cost next to nothing.

What a person costs is the splat mesh and its evaluated twin. An actor shares the mesh with the
person it is made of and is evaluated once, however often it is instanced. Actors stand at the
origin in collections of their own that are in no scene; they face -y with their soles at height 0.
"""

from dataclasses import dataclass

import bpy
import numpy as np
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from mathutils import Matrix

from ..people import PERSON, ROLE, Person, Role, note_names, set_role
from ..render.display import make_reduced
from ..rig.body import casts_shadow
from ..splats.build import (
    add_nodes,
    follow,
    get_inputs,
    is_splats,
    set_modifier_input,
    splat_modifier,
)
from ..splats.material import CORNER
from ..splats.nodes.graph import (
    Graph,
    Socket,
    add_item,
    add_length,
    new_group,
)
from ..splats.nodes.skin import INPUT_RIG, add_rig, skinned_frame
from .transform import facing_of, place_of, posed_points

# Geometry nodes for splats that are instanced: quads that lie in the plane of each Gaussian

_NAME = "CrowdGaussian Scattered Splats"
_VERSION_KEY = "crowdgaussian_scatter_version"
_VERSION = 2
FOOTPRINT = "Footprint"


def scatter_node_group() -> bpy.types.NodeTree:
    """The group that all scattered copies of a file share; made on first use."""
    present = (tree for tree in bpy.data.node_groups if tree.get(_VERSION_KEY) == _VERSION)
    return next(present, None) or _build()


def _build() -> bpy.types.NodeTree:
    tree = new_group(_NAME)
    tree[_VERSION_KEY] = _VERSION
    new = tree.interface.new_socket
    new("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    new("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    add_length(tree, FOOTPRINT, "Least blur: what one photo pixel covered")
    add_rig(tree)
    graph = Graph(tree)
    inputs = {socket.name: socket for socket in graph.node("NodeGroupInput").outputs if socket.name}
    centre, first, second = _disc(
        graph, inputs["Geometry"], inputs[FOOTPRINT], inputs.get(INPUT_RIG)
    )
    capture = graph.node("GeometryNodeCaptureAttribute", domain="FACE")
    graph.feed(capture.inputs["Geometry"], inputs["Geometry"])
    for name, field in (("Centre", centre), ("First", first), ("Second", second)):
        add_item(capture, "VECTOR", name)
        graph.feed(capture.inputs[name], field)
    moved = _move_corners(graph, capture)
    graph.feed(graph.node("NodeGroupOutput").inputs[0], moved)
    return tree


def _disc(
    graph: Graph, geometry: Socket, blur: Socket, rig: Socket | None
) -> tuple[Socket, Socket, Socket]:
    """Per face: centre and the two longer axes, no shorter than the blur."""
    centre, (a, b, c) = skinned_frame(graph, geometry, rig)
    la, lb, lc = (graph.vector("LENGTH", axis) for axis in (a, b, c))
    a_thinnest = graph.math("LESS_THAN", la, graph.math("MINIMUM", lb, lc))
    b_thinnest = graph.math("LESS_THAN", lb, graph.math("MINIMUM", la, lc))
    first = graph.choose(a_thinnest, a, b)
    second = graph.choose(graph.math("MAXIMUM", a_thinnest, b_thinnest), b, c)
    return centre, _blurred(graph, first, blur), _blurred(graph, second, blur)


def _blurred(graph: Graph, axis: Socket, blur: Socket) -> Socket:
    """An axis whose variance is the larger by the blur's."""
    ratio = graph.math("DIVIDE", blur, graph.math("MAXIMUM", graph.vector("LENGTH", axis), 1e-6))
    longer = graph.math("SQRT", graph.math("ADD", 1.0, graph.math("MULTIPLY", ratio, ratio)))
    return graph.scale(axis, longer)


def _move_corners(graph: Graph, capture: bpy.types.Node) -> Socket:
    corner = graph.named(CORNER)
    face = graph.quad_of(graph.call("GeometryNodeInputIndex", {}))
    x, y, _ = graph.separate(corner)
    centre, first, second = (
        graph.of_face(capture.outputs[name], face) for name in ("Centre", "First", "Second")
    )
    offset = graph.vector("ADD", graph.scale(first, x), graph.scale(second, y))
    inputs = {"Geometry": capture.outputs["Geometry"], "Position": centre, "Offset": offset}
    return graph.call("GeometryNodeSetPosition", inputs)


ACTOR = "crowdgaussian_actor"  # collection property: index of the person it shows
_DISCS = "Scattered Splats"  # modifier
_VARIED = {  # bones that may differ between copies while the feet stand, and how much
    "spine1": 0.5, "spine2": 0.5, "spine3": 0.5, "neck": 1.0, "head": 1.0,
    "left_shoulder": 1.0, "right_shoulder": 1.0, "left_elbow": 1.0, "right_elbow": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Variation:
    """How an actor differs from its person."""

    delay: int  # frames of the motion that are skipped
    bend: float  # radians, typical turn of a joint of the upper body
    seed: int
    reduced: bool  # a quarter of the splats


def make_actor(
    scene: bpy.types.Scene, person: Person, variation: Variation
) -> bpy.types.Collection:
    """A collection to instance.

    Args:
        scene: gives the frame range that a delayed motion is laid out over.
        person: has splats.
        variation: of pose and time.
    """
    actor = bpy.data.collections.new(f"{person.name} actor")
    actor[ACTOR] = person.index
    rig = person.rig.copy()
    rig.parent = None
    rig.matrix_world = Matrix(_to_origin(person).tolist())
    follow_own_controls(rig, person.rig)
    shown = make_reduced(person) if variation.reduced else person.splats
    splats = deformed_copy(shown, person.rig, rig)
    splats.hide_render = splats.hide_viewport = False
    _show_as_discs(splats)
    parts: dict[Role, bpy.types.Object] = {"rig": rig, "splats": splats}
    if person.body is not None:
        body = deformed_copy(person.body, person.rig, rig)
        body.hide_viewport = True
        body.hide_render = not casts_shadow(person.body)
        parts["body"] = body
    for role, part in parts.items():
        set_role(part, role)
        actor.objects.link(part)
    _delay(rig, variation.delay, scene)
    _bend(rig, variation, scene)
    return actor


def make_person(copy: bpy.types.Object) -> bpy.types.Collection:
    """A person of their own in place of an instance of an actor; the instance is removed.

    Returns:
        Their collection, not linked to a scene yet.
    """
    actor = copy.instance_collection
    collection = bpy.data.collections.new(copy.name)
    collection[PERSON] = int(actor[ACTOR])
    source = next(obj for obj in actor.objects if obj.type == "ARMATURE")
    rig = source.copy()
    rig.data = source.data.copy()
    rig.matrix_world = copy.matrix_world @ source.matrix_basis
    follow_own_controls(rig, source)
    collection.objects.link(rig)
    for part in (obj for obj in actor.objects if obj != source):
        obj = deformed_copy(part, source, rig)
        collection.objects.link(obj)
        if part[ROLE] == "splats":
            obj.modifiers.remove(obj.modifiers[_DISCS])
            nodes = splat_modifier(obj)
            nodes.show_viewport = nodes.show_render = True
    bpy.data.objects.remove(copy)
    note_names(collection, rig)
    return collection


def _to_origin(person: Person) -> np.ndarray:
    """The rig's matrix with the person's soles over the origin, facing -y.  # [4, 4]"""
    x, y, _ = place_of(person)
    floor = posed_points(person)[:, 2].min()
    back = Matrix.Rotation(-facing_of(person), 4, "Z") @ Matrix.Translation((-x, -y, -floor))
    return np.array(back @ person.rig.matrix_world)


def deformed_copy(
    source: bpy.types.Object, old: bpy.types.Object, new: bpy.types.Object
) -> bpy.types.Object:
    """A copy that shares the mesh and follows another rig."""
    obj = source.copy()
    if obj.parent == old:
        obj.parent = new
    for modifier in obj.modifiers:
        if isinstance(modifier, bpy.types.ArmatureModifier) and modifier.object == old:
            modifier.object = new
    if is_splats(obj):
        follow(obj)
    return obj


def follow_own_controls(rig: bpy.types.Object, source: bpy.types.Object) -> None:
    """IK of a copied rig follows its own controls, not those of the rig it was copied from."""
    for constraint in (c for bone in rig.pose.bones for c in bone.constraints):
        for field in ("target", "pole_target"):
            if getattr(constraint, field, None) == source:
                setattr(constraint, field, rig)


def _show_as_discs(splats: bpy.types.Object) -> None:
    nodes = splat_modifier(splats)
    nodes.show_viewport = nodes.show_render = False
    blur = get_inputs(nodes).get(FOOTPRINT, 0.0)
    discs = add_nodes(splats, _DISCS, scatter_node_group())
    set_modifier_input(discs, FOOTPRINT, blur)
    follow(splats)


def _delay(rig: bpy.types.Object, frames: int, scene: bpy.types.Scene) -> None:
    """Play an action so many frames ahead, through a strip, so that its keys stay shared."""
    data = rig.animation_data
    if data is None or not frames:
        return
    for strip in (strip for track in data.nla_tracks for strip in track.strips):
        strip.frame_start, strip.frame_end = strip.frame_start - frames, strip.frame_end - frames
    if data.action is not None:
        _to_strip(rig, "Motion", (scene.frame_start, scene.frame_end), frames)


def _bend(rig: bpy.types.Object, variation: Variation, scene: bpy.types.Scene) -> None:
    """Turn joints of the upper body at random, on top of whatever moves them."""
    if variation.bend <= 0:
        return
    rng = np.random.default_rng(variation.seed)
    data = rig.animation_data
    moved = data is not None and (data.action is not None or len(data.nla_tracks) > 0)
    span = (scene.frame_start, scene.frame_end)
    if moved and data.action is not None:
        _to_strip(rig, "Motion", span, 0)
    for name, share in _VARIED.items():
        bone = rig.pose.bones[name]
        vector = rng.normal(0.0, variation.bend * share, 3)
        turn = Matrix(axis_angle_to_matrix(vector).tolist()).to_quaternion()
        bone.rotation_quaternion = turn if moved else bone.rotation_quaternion @ turn
        if moved:
            bone.keyframe_insert("rotation_quaternion", frame=scene.frame_start)
    if moved:
        _to_strip(rig, "Variation", span, 0).blend_type = "COMBINE"


def _to_strip(
    rig: bpy.types.Object, name: str, span: tuple[int, int], ahead: int
) -> bpy.types.NlaStrip:
    """Move the active action to a new NLA track that says the same, some frames ahead."""
    data = rig.animation_data
    action, slot = data.action, data.action_slot
    data.action = None
    track = data.nla_tracks.new()
    track.name = name
    strip = track.strips.new(name, span[0], action)
    strip.action_slot = slot
    first, last = span[0], max(span[1], span[0] + 1)
    strip.action_frame_end = last + ahead
    strip.action_frame_start = first + ahead
    strip.frame_start, strip.frame_end = first, last
    strip.scale = 1.0
    strip.extrapolation = "HOLD"
    return strip
