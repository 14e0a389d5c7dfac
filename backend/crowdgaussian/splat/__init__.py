# SPDX-License-Identifier: Apache-2.0
"""Gaussian splatting: cameras, one differentiable rasteriser, posing and normal maps."""

from .cameras import Cameras
from .rasterize import rasterize
from .splats import RasterConfig, Render, Splats

__all__ = ["Cameras", "RasterConfig", "Render", "Splats", "rasterize"]
