# SPDX-License-Identifier: GPL-3.0-or-later
"""Scene settings that splats need, and the two ways to mean their colours.

"photo" mode renders what the avatars were fitted to. Gaussians are fitted by compositing sRGB
values at pixel centres, as all of 3D Gaussian Splatting is; so the splats emit their sRGB values
unchanged, the view transform is Raw so that nothing is encoded twice, and the pixel filter is a
point, because the 0.3 square pixels of blur in the splat nodes already are the anti-aliasing. The
render then equals the rasteriser's to the rounding of a PNG (above 55 dB) with a single sample.
The price: whatever the artist adds is seen in display values too, so lights fall off harsher than
usual, and edges of ordinary meshes are not smoothed.

"linear" mode is for people among lit objects: the splats decode their colours to scene-linear
light, the view transform is Standard and the pixel filter Blender's own. People keep their colours;
only the soft rims of splats blend differently from the fit.

The import chooses "photo", and Cycles, which sorts by itself. EEVEE blends in the order in which it
is given the quads, so set_engine has the nodes sort them from far to near; it sorts whole objects
between people, so people who reach through each other blend less well than in Cycles.

Either way Cycles must not play Russian roulette with rays that cross transparent surfaces, which it
does by default: a ray to a person crosses dozens of quads, and every render of splats would be
noise.
"""

from typing import Literal

import bpy
import numpy as np

from ..attributes import make_mesh, mesh_data
from ..splats.build import set_depth_sort
from ..splats.material import is_scene_linear, set_scene_linear, splat_materials
from .display import all_splats

RenderMode = Literal["photo", "linear"]
Engine = Literal["CYCLES", "EEVEE"]

MIN_TRANSPARENT_BOUNCES = 128
MAX_TRANSPARENT_BOUNCES = 512
PHOTO_SAMPLES = 4  # one would do for splats; shadows and lights added later like a few
EEVEE_SAMPLES = 16
_POINT = 0.01  # pixels, the narrowest filter there is
_SOFT = 1.5  # pixels, Blender's default


def set_render_mode(scene: bpy.types.Scene, mode: RenderMode) -> None:
    """Switch colours, view transform and pixel filter together; see the module's docstring."""
    linear = mode == "linear"
    set_scene_linear(linear)
    view = scene.view_settings
    # The choices come from the colour configuration at run time.
    view.view_transform = "Standard" if linear else "Raw"  # type: ignore[assignment]
    view.look = "None"  # type: ignore[assignment]
    view.exposure, view.gamma = 0.0, 1.0
    scene.cycles.pixel_filter_type = "BLACKMAN_HARRIS"  # a box has always the width of a pixel
    scene.cycles.filter_width = scene.render.filter_size = _SOFT if linear else _POINT


def prepare_render(scene: bpy.types.Scene) -> None:
    """What splats need in either mode; the engine becomes Cycles, the film transparent."""
    use_engine(scene, "CYCLES")
    scene.render.film_transparent = True
    scene.render.dither_intensity = 0.0
    cycles = scene.cycles
    cycles.samples = PHOTO_SAMPLES
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = False
    allow_transparency(scene)


def allow_transparency(scene: bpy.types.Scene) -> None:
    """Let Cycles cross as many splats as a ray to a person meets, without roulette."""
    cycles = scene.cycles
    cycles.min_transparent_bounces = max(cycles.min_transparent_bounces, MIN_TRANSPARENT_BOUNCES)
    cycles.transparent_max_bounces = max(cycles.transparent_max_bounces, MAX_TRANSPARENT_BOUNCES)


def has_transparency(scene: bpy.types.Scene) -> bool:
    """Whether allow_transparency would change nothing."""
    cycles = scene.cycles
    return (
        cycles.min_transparent_bounces >= MIN_TRANSPARENT_BOUNCES
        and cycles.transparent_max_bounces >= MAX_TRANSPARENT_BOUNCES
    )


def render_mode(scene: bpy.types.Scene) -> RenderMode | None:
    """The mode that colours and view transform agree on; None when they do not."""
    linear = any(is_scene_linear(material) for material in splat_materials())
    transform = scene.view_settings.view_transform
    if linear:
        return "linear" if transform != "Raw" else None
    return "photo" if transform == "Raw" else None


def set_engine(scene: bpy.types.Scene, engine: Engine) -> None:
    """Choose the engine and what its splats need: sorting in EEVEE, none in Cycles."""
    eevee = engine == "EEVEE"
    if eevee:
        use_engine(scene, eevee_name())
        scene.eevee.taa_render_samples = EEVEE_SAMPLES
    else:
        prepare_render(scene)
    set_depth_sort(all_splats(scene), eevee)


def engine_of(scene: bpy.types.Scene) -> Engine | None:
    """Cycles, EEVEE, or None for any other."""
    if scene.render.engine == "CYCLES":
        return "CYCLES"
    return "EEVEE" if scene.render.engine == eevee_name() else None


def use_engine(scene: bpy.types.Scene, name: str) -> None:
    """Choose an engine by Blender's own name."""
    scene.render.engine = name  # type: ignore[assignment]  # add-ons register more of them


def eevee_name() -> str:
    """What this Blender calls EEVEE."""
    return "BLENDER_EEVEE" if bpy.app.version >= (5, 0) else "BLENDER_EEVEE_NEXT"


# The floor of the crowd: a plane that catches shadows, out of renders until it is wanted

GROUND = "crowdgaussian_ground"  # object property: this is the floor of a crowd
_MARGIN = 3.0  # metres of floor around the people
_QUAD = np.array([[0, 1, 2, 3]], np.int32)


def build_ground(height: float, name: str) -> bpy.types.Object:
    """A shadow-catching plane; the caller links it to a collection and then covers people.

    Args:
        height: metres.
        name: wanted object name.
    """
    mesh = make_mesh(name, np.zeros((4, 3)), _QUAD)
    obj = bpy.data.objects.new(name, mesh)
    obj.location = (0.0, 0.0, height)
    obj.display_type = "WIRE"
    obj.hide_render = True
    obj.is_shadow_catcher = True
    obj[GROUND] = True
    cover_people(obj, np.zeros((1, 3)))
    return obj


def cover_people(ground: bpy.types.Object, places: np.ndarray) -> None:
    """Make the plane just large enough for all people, with a margin.

    Args:
        ground: from build_ground; left alone when its mesh was edited.
        places: [P, 3] in Blender's world, where people stand.
    """
    if len(mesh_data(ground).vertices) != 4 or not len(places):
        return
    margin = _MARGIN * ground.scale.x
    low, high = places.min(axis=0) - margin, places.max(axis=0) + margin
    x, y, _ = (high - low) / 2 / ground.scale.x
    corners = np.array([(-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0)], np.float32)
    mesh_data(ground).vertices.foreach_set("co", corners.ravel())
    mesh_data(ground).update()
    ground.location.xy = (low + high)[:2] / 2
