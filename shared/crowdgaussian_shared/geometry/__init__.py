# SPDX-License-Identifier: Apache-2.0
"""Frames, rotations, spherical harmonics, skinning, cameras; numpy only."""
