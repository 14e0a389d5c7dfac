# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that builds Blender data: rigs, splats, bodies, camera, ground, renders."""
