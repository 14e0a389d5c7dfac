# SPDX-License-Identifier: Apache-2.0
"""What every part of the pipeline needs: cameras, landmarks, meshes, rotations."""
