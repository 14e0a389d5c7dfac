# SPDX-License-Identifier: GPL-3.0-or-later
"""View-dependent colour: spherical harmonics in the frame that turns with the bones.

A Gaussian's colours turn with the rotation of M, the blended affine of its bones, by M's polar
decomposition, as in shared's geometry/skinning.py. Turning coefficients needs big matrices; turning
the viewing direction back is the same and cheap. With A = M R S the edges of the quad, B = A S^-1 =
M R has the polar factor Q R, so Q R is found from the edges and the stored scales alone, and the
direction in the canonical frame is R (Q R)^T d.

The polar factor is that of Newton's iteration X <- (X + X^-T) / 2 (Higham 1986), which converges
quadratically. Blends of rotations have singular values between cos(t / 2) and 1, t the largest
angle between bones, so five steps are exact to 1e-3 even where a joint is bent by 150 degrees.
"""

from crowdgaussian_shared.geometry.sh import BANDS

from ..material import COLOUR, CORNER, MIN_SCALE, ROTATION, SCALE, SH_PREFIX, SHADED_NORMAL, SOLID
from .graph import Graph, Socket, Value, add_item

_STEPS = 5

Axes = tuple[Socket, Socket, Socket]


def view_dependent_colour(
    graph: Graph, geometry: Socket, degree: int, axes: Axes, ray: Socket
) -> Socket:
    """Geometry whose colours are those seen along the ray.

    Args:
        graph: the tree under construction.
        geometry: socket of the splats.
        degree: 1..3.
        axes: per face, the skinned edges of the quad.
        ray: per face, camera to centre, of any length.
    """
    direction = _canonical_direction(graph, axes, graph.vector("NORMALIZE", ray))
    base = graph.named(COLOUR, "FLOAT_COLOR")
    parts = graph.node("FunctionNodeSeparateColor")
    graph.feed(parts.inputs[0], base)
    total = graph.combine(*parts.outputs[:3])
    for k, factor in enumerate(_basis(graph, direction, degree), start=1):
        band = graph.named(f"{SH_PREFIX}{k}")
        total = graph.vector("ADD", total, graph.scale(band, factor))
    seen = graph.node("FunctionNodeCombineColor")
    for socket, value in zip(seen.inputs, (*graph.separate(total), parts.outputs[3])):
        graph.feed(socket, value)
    inputs: dict[str, Value] = {
        "Geometry": geometry,
        "Name": COLOUR,
        "Value": seen.outputs[0],
    }
    return graph.call(
        "GeometryNodeStoreNamedAttribute", inputs, data_type="FLOAT_COLOR", domain="FACE"
    )


def _canonical_direction(graph: Graph, axes: Axes, direction: Socket) -> Socket:
    """R (Q R)^T d of the module's docstring."""
    scales = graph.vector("MAXIMUM", graph.named(SCALE), (MIN_SCALE,) * 3)
    inverse = graph.separate(graph.vector("DIVIDE", (1.0, 1.0, 1.0), scales))
    x, y, z = (graph.scale(axis, factor) for axis, factor in zip(axes, inverse))
    columns: Axes = (x, y, z)
    for _ in range(_STEPS):
        columns = _newton(graph, columns)
    local = graph.combine(*(graph.vector("DOT_PRODUCT", column, direction) for column in columns))
    rotation = graph.named(ROTATION, "QUATERNION")
    turned = graph.call("FunctionNodeRotateVector", {"Vector": local, "Rotation": rotation})
    return graph.vector("NORMALIZE", turned)


def _newton(graph: Graph, columns: Axes) -> Axes:
    """One step towards the polar factor: half of X + X^-T, whose columns are cofactors / det."""
    a, b, c = columns
    cofactors = [graph.vector("CROSS_PRODUCT", p, q) for p, q in ((b, c), (c, a), (a, b))]
    factor = graph.math("DIVIDE", 0.5, graph.vector("DOT_PRODUCT", a, cofactors[0]))
    x, y, z = (
        graph.vector("ADD", graph.scale(column, 0.5), graph.scale(cofactor, factor))
        for column, cofactor in zip(columns, cofactors)
    )
    return x, y, z


def _basis(graph: Graph, direction: Socket, degree: int) -> list[Socket]:
    """The basis functions above degree 0, as in crowdgaussian_shared.geometry.sh."""
    powers = dict(zip("xyz", graph.separate(direction)))

    def monomial(letters: str) -> Socket:
        if letters not in powers:
            rest = monomial(letters[1:])
            powers[letters] = graph.math("MULTIPLY", powers[letters[0]], rest)
        return powers[letters]

    functions = []
    for polynomial in (p for band in BANDS[:degree] for p in band):
        total: Socket | None = None
        for letters, coefficient in polynomial.items():
            term = graph.math("MULTIPLY", monomial(letters), coefficient)
            total = term if total is None else graph.math("ADD", total, term)
        functions.append(total)
    return functions


# Splats in the order of their depth, for engines that blend faces in the order they are given


def sort_nodes(
    graph: Graph, geometry: Socket, far: Socket, wanted: Socket, lit: Socket
) -> tuple[Socket, Socket]:
    """Give each face the look of the splat that it is to draw.

    Args:
        graph: the tree under construction.
        geometry: socket of the splats, one face each.
        far: per face, larger is farther.
        wanted: whether to sort; nothing is evaluated otherwise.
        lit: whether the faces carry normals for lights.

    Returns:
        The geometry, and per vertex the number of the splat that its quad draws.
    """
    index = graph.call("GeometryNodeInputIndex", {})
    capture = graph.node("GeometryNodeCaptureAttribute", domain="FACE")
    add_item(capture, "INT", "Splat")
    graph.feed(capture.inputs["Geometry"], geometry)
    graph.feed(capture.inputs["Splat"], _order(graph, geometry, far, index))
    splat = capture.outputs["Splat"]
    moved = _move(graph, capture.outputs["Geometry"], COLOUR, "FLOAT_COLOR", "FACE", splat)
    normals = _move(graph, moved, SHADED_NORMAL, "FLOAT_VECTOR", "FACE", splat)
    moved = graph.choose(lit, moved, normals, "GEOMETRY")
    face = graph.quad_of(index)
    inputs = {"Value": splat, "Index": face}
    of_vertex = graph.call("GeometryNodeFieldAtIndex", inputs, data_type="INT", domain="FACE")
    first = graph.integer("MULTIPLY", of_vertex, 4)
    vertex = graph.integer("ADD", first, graph.integer("MODULO", index, 4))
    moved = _move(graph, moved, CORNER, "FLOAT_VECTOR", "POINT", vertex)
    moved = _move(graph, moved, SOLID, "BYTE_COLOR", "POINT", vertex)
    return (
        graph.choose(wanted, geometry, moved, "GEOMETRY"),
        graph.choose(wanted, face, of_vertex, "INT"),
    )


def _order(graph: Graph, geometry: Socket, far: Socket, index: Socket) -> Socket:
    """The number of the splat at the place `index`, counted from far to near."""
    size = graph.node("GeometryNodeAttributeDomainSize")
    graph.feed(size.inputs["Geometry"], geometry)
    depth = graph.call("GeometryNodeSampleIndex",
                       {"Geometry": geometry, "Value": far, "Index": index},
                       data_type="FLOAT", domain="FACE")  # fmt: skip
    points = graph.call("GeometryNodePoints", {
        "Count": size.outputs["Face Count"],
        "Position": graph.combine(graph.math("MULTIPLY", depth, -1.0), index, 0.0),
    })  # fmt: skip
    position = graph.call("GeometryNodeInputPosition", {})
    inputs = {"Geometry": points, "Sort Weight": graph.separate(position)[0]}
    ordered = graph.call("GeometryNodeSortElements", inputs, domain="POINT")
    inputs = {"Geometry": ordered, "Value": position, "Index": index}
    found = graph.call("GeometryNodeSampleIndex", inputs,
                       data_type="FLOAT_VECTOR", domain="POINT")  # fmt: skip
    return graph.separate(found)[1]


def _move(
    graph: Graph, geometry: Socket, name: str, kind: str, domain: str, source: Socket
) -> Socket:
    """Each element takes the attribute of the element with the given number."""
    field = "FLOAT_COLOR" if kind == "BYTE_COLOR" else kind  # nodes know bytes only when they store
    value = graph.named(name, field)
    inputs = {"Value": value, "Index": source}
    value = graph.call("GeometryNodeFieldAtIndex", inputs, data_type=field, domain=domain)
    stored: dict[str, Value] = {"Geometry": geometry, "Name": name, "Value": value}
    return graph.call("GeometryNodeStoreNamedAttribute", stored, data_type=kind, domain=domain)
