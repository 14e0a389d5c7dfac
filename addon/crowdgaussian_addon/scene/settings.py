# SPDX-License-Identifier: GPL-3.0-or-later
"""Scene settings that splats need, and what colours mean.

Colour. Avatars are fitted by compositing sRGB values, as all of 3D Gaussian Splatting is. To match
the photo, Blender must composite the same numbers: in "photo" mode the splats emit their sRGB
values unchanged and the scene's view transform is Raw, so nothing is encoded twice. Everything a
camera sees then is in display values: lights and materials added by the artist look darker and
harsher than usual. In "linear" mode the splats decode their colours and the view transform is
Standard: people sit correctly among lit objects, and only the soft rims of splats differ from the
fit (around 35 dB instead of 45). The import chooses "photo".

Pixel filter. The splat nodes add 3D Gaussian Splatting's 0.3 square pixels of blur, which already
is the anti-aliasing of a splat; a render pixel then is a point sample of it. Cycles therefore gets
its narrowest sensible filter, a one-pixel box: wider filters blur the people once more.

Bounces. Cycles plays Russian roulette with rays that cross transparent surfaces; a ray to a person
crosses dozens, so without a minimum every render of splats is noise.
"""

from typing import Literal

import bpy

from .material import set_scene_linear, splat_material

ColourMode = Literal["photo", "linear"]

MIN_TRANSPARENT_BOUNCES = 32
MAX_TRANSPARENT_BOUNCES = 256


def set_colour_mode(scene: bpy.types.Scene, mode: ColourMode) -> None:
    """Switch splat material and view transform together; see the module's docstring."""
    set_scene_linear(splat_material(), mode == "linear")
    view = scene.view_settings
    view.view_transform = "Standard" if mode == "linear" else "Raw"
    view.look = "None"
    view.exposure, view.gamma = 0.0, 1.0


def prepare_render(scene: bpy.types.Scene) -> None:
    """Cycles and EEVEE settings for splats; the engine becomes Cycles, the film transparent."""
    scene.render.engine = "CYCLES"
    scene.render.film_transparent = True
    scene.render.filter_size = 1.0
    scene.render.dither_intensity = 0.0
    cycles = scene.cycles
    cycles.samples = 16
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = False
    cycles.pixel_filter_type = "BOX"
    cycles.filter_width = 1.0
    cycles.min_transparent_bounces = max(cycles.min_transparent_bounces, MIN_TRANSPARENT_BOUNCES)
    cycles.transparent_max_bounces = max(cycles.transparent_max_bounces, MAX_TRANSPARENT_BOUNCES)
