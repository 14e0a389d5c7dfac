# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras, photo match, light, previews and images."""
