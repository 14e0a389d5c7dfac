# SPDX-License-Identifier: GPL-3.0-or-later
"""What a splat mesh carries: the names and meanings of its attributes, in one table."""

VERSION = 2  # of the node groups and materials
VERSION_KEY = "crowdgaussian_version"  # their property

CORNER = "splat_corner"  # POINT FLOAT_VECTOR: corner of the quad in standard deviations, z unused
COLOUR = "splat_colour"  # FACE FLOAT_COLOR: sRGB values of degree 0, and opacity as alpha
ROTATION = "splat_rotation"  # FACE QUATERNION: canonical rotation in Blender's axes
SCALE = "splat_scale"  # FACE FLOAT_VECTOR: canonical standard deviations, metres
SH_PREFIX = "splat_sh_"  # FACE FLOAT_VECTOR, splat_sh_1..15: the higher bands in Blender's axes
NORMAL = "splat_normal"  # FACE FLOAT_VECTOR: S R^T n of the body's rest normal n, for lights
SHADED_NORMAL = "splat_shaded_normal"  # made by the nodes: the skinned normal, object space

MAX_COEFFICIENTS = 16  # of spherical harmonics of degree 3
MIN_SCALE = 1e-4  # metres: thinner axes lose their direction in float32
ALPHA_CUTOFF = 1.0 / 255.0
