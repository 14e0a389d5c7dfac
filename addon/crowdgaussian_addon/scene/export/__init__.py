# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing people out of Blender."""
