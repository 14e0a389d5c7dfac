# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaussians as point clouds with material and modifier."""
