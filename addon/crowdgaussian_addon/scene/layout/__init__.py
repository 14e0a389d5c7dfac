# SPDX-License-Identifier: GPL-3.0-or-later
"""Placing people: transforms, overlaps, scattering, instances."""
