# SPDX-License-Identifier: Apache-2.0
"""CrowdGaussian: one photo of a group of people into people you can direct."""

__version__ = "0.1.0"
