# SPDX-License-Identifier: GPL-3.0-or-later
"""The Blender side of CrowdGaussian: brings scene folders into Blender as rigged splat people."""
