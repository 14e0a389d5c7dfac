# SPDX-License-Identifier: Apache-2.0
"""What the backend and the Blender add-on both speak: numpy and the standard library only."""
