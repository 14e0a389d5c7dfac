# SPDX-License-Identifier: GPL-3.0-or-later
"""View-dependent colour: spherical harmonics in the frame that turns with the bones.

A Gaussian's colours turn with the rotation of M, the blended affine of its bones, by M's polar
decomposition, as in crowdgaussian_shared.skinning. Turning coefficients needs big matrices; turning
the viewing direction back is the same and cheap. With A = M R S the edges of the quad, B = A S^-1 =
M R has the polar factor Q R, so Q R is found from the edges and the stored scales alone, and the
direction in the canonical frame is R (Q R)^T d.

The polar factor is that of Newton's iteration X <- (X + X^-T) / 2 (Higham 1986), which converges
quadratically. Blends of rotations have singular values between cos(t / 2) and 1, t the largest
angle between bones, so five steps are exact to 1e-3 even where a joint is bent by 150 degrees.
"""

from crowdgaussian_shared.sh import BANDS

from .graph import Graph, Socket
from .splat_format import COLOUR, MIN_SCALE, ROTATION, SCALE, SH_PREFIX

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
    base = _named(graph, COLOUR, "FLOAT_COLOR")
    parts = graph.node("FunctionNodeSeparateColor")
    graph.feed(parts.inputs[0], base)
    total = graph.combine(*parts.outputs[:3])
    for k, factor in enumerate(_basis(graph, direction, degree), start=1):
        band = _named(graph, f"{SH_PREFIX}{k}", "FLOAT_VECTOR")
        total = graph.vector("ADD", total, graph.scale(band, factor))
    seen = graph.node("FunctionNodeCombineColor")
    for socket, value in zip(seen.inputs, (*graph.separate(total), parts.outputs[3])):
        graph.feed(socket, value)
    inputs = {"Geometry": geometry, "Name": COLOUR, "Value": seen.outputs[0]}
    return graph.call("GeometryNodeStoreNamedAttribute", inputs,
                      data_type="FLOAT_COLOR", domain="FACE")


def _canonical_direction(graph: Graph, axes: Axes, direction: Socket) -> Socket:
    """R (Q R)^T d of the module's docstring."""
    scales = graph.vector("MAXIMUM", _named(graph, SCALE, "FLOAT_VECTOR"), (MIN_SCALE,) * 3)
    inverse = graph.separate(graph.vector("DIVIDE", (1.0, 1.0, 1.0), scales))
    columns = tuple(graph.scale(axis, factor) for axis, factor in zip(axes, inverse))
    for _ in range(_STEPS):
        columns = _newton(graph, columns)
    local = graph.combine(*(graph.vector("DOT_PRODUCT", column, direction) for column in columns))
    rotation = _named(graph, ROTATION, "QUATERNION")
    turned = graph.call("FunctionNodeRotateVector", {"Vector": local, "Rotation": rotation})
    return graph.vector("NORMALIZE", turned)


def _newton(graph: Graph, columns: Axes) -> Axes:
    """One step towards the polar factor: half of X + X^-T, whose columns are cofactors / det."""
    a, b, c = columns
    cofactors = [graph.vector("CROSS_PRODUCT", p, q) for p, q in ((b, c), (c, a), (a, b))]
    factor = graph.math("DIVIDE", 0.5, graph.vector("DOT_PRODUCT", a, cofactors[0]))
    return tuple(
        graph.vector("ADD", graph.scale(column, 0.5), graph.scale(cofactor, factor))
        for column, cofactor in zip(columns, cofactors)
    )


def _basis(graph: Graph, direction: Socket, degree: int) -> list[Socket]:
    """The basis functions above degree 0, as in crowdgaussian_shared.sh."""
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


def _named(graph: Graph, name: str, kind: str) -> Socket:
    return graph.call("GeometryNodeInputNamedAttribute", {"Name": name}, data_type=kind)
