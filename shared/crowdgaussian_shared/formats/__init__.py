# SPDX-License-Identifier: Apache-2.0
"""Files: avatar.npz, splat PLY, BVH, PNG, JSON fields, atomic writing."""
