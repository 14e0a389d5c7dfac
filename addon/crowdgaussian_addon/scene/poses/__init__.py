# SPDX-License-Identifier: GPL-3.0-or-later
"""The pose library and its assets."""
