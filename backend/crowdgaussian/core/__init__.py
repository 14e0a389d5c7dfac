# SPDX-License-Identifier: Apache-2.0
"""What every stage needs: camera, rotations, meshes, images, landmarks, metrics, training."""
