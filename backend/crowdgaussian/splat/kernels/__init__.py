# SPDX-License-Identifier: Apache-2.0
"""The CPU rasteriser's compiled loops."""
