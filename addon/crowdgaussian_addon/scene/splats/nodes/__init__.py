# SPDX-License-Identifier: GPL-3.0-or-later
"""The node groups that show Gaussians."""
