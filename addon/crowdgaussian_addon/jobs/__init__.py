# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of the panel and the local server; no Blender module is imported here."""
