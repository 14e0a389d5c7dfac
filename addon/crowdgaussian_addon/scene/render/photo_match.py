# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the scene still look like the photo? A small render beside, over, or minus it.

The render is taken with the photo's camera in horizontal strips, so that it can be stopped, and
every setting is put back afterwards. Both pictures are compared in sRGB values.
"""

import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import bpy
import numpy as np
from crowdgaussian_shared.errors import (
    CrowdGaussianError,
    InputError,
    MissingFileError,
    ResourceError,
)
from crowdgaussian_shared.scene.folder import SceneFolder

from ..attributes import camera_data
from .images import over, read_picture, resize
from .settings import GROUND, use_engine

SOURCE = "crowdgaussian_scene_folder"  # collection property: where the scene folder was
IMAGE = "Photo Match"  # the image data-block
View = Literal["SIDE", "BLEND", "DIFFERENCE"]
_STRIPS = 4
_GAIN = 4.0  # how much a difference is amplified
_SETTINGS = (  # of scene.render
    "engine", "resolution_x", "resolution_y", "resolution_percentage", "pixel_aspect_x",
    "pixel_aspect_y", "film_transparent", "filepath", "use_border", "use_crop_to_border",
    "border_min_x", "border_max_x", "border_min_y", "border_max_y", "use_compositing",
    "use_sequencer", "use_file_extension",
)  # fmt: skip
_FORMAT = ("file_format", "color_mode", "color_depth")
_CYCLES = ("samples", "pixel_filter_type", "filter_width", "use_denoising")


@dataclass(frozen=True)
class Match:
    """How well render and photo agree."""

    psnr: float  # dB, inside the people
    pixels: int  # how many those are
    masks: bool  # whether they are the photo's masks, or where the render shows anybody


def photo_crowd(scene: bpy.types.Scene) -> bpy.types.Collection:
    """The crowd whose photo camera is the scene's camera, or the first one that has one.

    Raises:
        InputError: there is none with a photo.
    """
    crowds = [c for c in scene.collection.children_recursive if c.get(SOURCE) is not None]
    cameras = {crowd: camera for crowd in crowds if (camera := photo_camera_of(crowd)) is not None}
    if not cameras:
        raise InputError(
            "No crowd of this scene has its photo's camera any more; import the crowd again."
        )
    return next((c for c, camera in cameras.items() if camera == scene.camera), next(iter(cameras)))


def match_photo(
    scene: bpy.types.Scene, width: int, view: View
) -> Generator[tuple[float, str], None, Match]:
    """Render, compare and fill the image data-block IMAGE, in steps; returns a Match.

    Args:
        scene: with a crowd.
        width: pixels of the render.
        view: what the image shows.

    Raises:
        CrowdGaussianError: the photo or its camera is gone, or the render fails.
    """
    crowd = photo_crowd(scene)
    camera = photo_camera_of(crowd)
    photo = _photo_of(camera)
    height = max(1, round(width * photo.shape[0] / photo.shape[1]))
    with tempfile.TemporaryDirectory() as scratch, _settings_kept(scene):
        scene.camera = camera
        _prepare(scene, width, height, photo.shape)
        strips = []
        for strip in range(_STRIPS):
            yield strip / _STRIPS, f"strip {strip + 1} of {_STRIPS}"
            strips.append(_render_strip(scene, strip, Path(scratch) / f"{strip}.png"))
        render = np.concatenate(strips)
    small = resize(photo, render.shape[1], render.shape[0])
    mask, known = _mask(crowd, render)
    _show(_picture(render, small, view))
    error = ((over(render, small) - small)[mask] ** 2).mean() if mask.any() else 0.0
    psnr = float("inf") if error == 0 else float(-10 * np.log10(error))
    return Match(psnr, int(mask.sum()), known)


def photo_camera_of(crowd: bpy.types.Collection) -> bpy.types.Object | None:
    """The camera of a crowd that has the photo behind it, unless it was deleted."""
    return next(
        (
            obj
            for obj in crowd.objects
            if obj.type == "CAMERA" and any(b.image for b in camera_data(obj).background_images)
        ),
        None,
    )


def _photo_of(camera: bpy.types.Object) -> np.ndarray:
    """The photo behind the camera.  # [H, W, 3] sRGB"""
    image = next(b.image for b in camera_data(camera).background_images if b.image)
    path = Path(bpy.path.abspath(image.filepath))
    if not path.is_file():
        raise MissingFileError(
            f"The photo {path} is gone; put it back or choose another background image for "
            f"{camera.name}."
        )
    return read_picture(path)[..., :3]


@contextmanager
def _settings_kept(scene: bpy.types.Scene) -> Iterator[None]:
    """Every setting that _prepare touches is put back."""
    holders = (
        (scene.render, _SETTINGS),
        (scene.render.image_settings, _FORMAT),
        (scene.cycles, _CYCLES),
    )
    kept = [(holder, name, getattr(holder, name)) for holder, names in holders for name in names]
    camera = scene.camera
    grounds = [(obj, obj.hide_render) for obj in scene.objects if obj.get(GROUND)]
    try:
        yield
    finally:
        scene.camera = camera
        for holder, name, value in kept:
            setattr(holder, name, value)
        for ground, hidden in grounds:
            ground.hide_render = hidden


def _prepare(scene: bpy.types.Scene, width: int, height: int, photo: tuple[int, ...]) -> None:
    render = scene.render
    use_engine(scene, "CYCLES")
    scene.cycles.samples = 4
    scene.cycles.use_denoising = False
    square = width / height * photo[0] / photo[1]  # rounding of the height, and odd photos
    render.pixel_aspect_x = render.pixel_aspect_x if abs(square - 1) < 0.05 else 1.0
    render.resolution_x, render.resolution_y = width, height
    render.resolution_percentage = 100
    render.film_transparent = True
    render.use_border = render.use_crop_to_border = True
    render.border_min_x, render.border_max_x = 0.0, 1.0
    render.use_compositing = render.use_sequencer = False
    render.use_file_extension = True
    settings = render.image_settings
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA", "8"
    for ground in (obj for obj in scene.objects if obj.get(GROUND)):
        ground.hide_render = True


def _render_strip(scene: bpy.types.Scene, strip: int, path: Path) -> np.ndarray:
    """Strips from top to bottom.  # [h, W, 4] straight alpha"""
    render = scene.render
    render.border_max_y = 1.0 - strip / _STRIPS
    render.border_min_y = 1.0 - (strip + 1) / _STRIPS
    render.filepath = str(path)
    try:
        bpy.ops.render.render(write_still=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].rstrip(".")
        raise ResourceError(
            f"The render failed ({reason}); render once by hand to see why."
        ) from error
    return read_picture(path)


def _mask(crowd: bpy.types.Collection, render: np.ndarray) -> tuple[np.ndarray, bool]:
    """Where people are: the photo's masks, or else where the render is.  # [H, W] bool"""
    height, width = render.shape[:2]
    total = None
    try:
        folder = SceneFolder.open(Path(crowd[SOURCE]))
        for index, _ in enumerate(folder.info.people):
            if folder.person_file(index, "mask").is_file():
                mask = folder.read_mask(index).astype(np.float32)[..., None]
                total = mask if total is None else np.maximum(total, mask)
    except CrowdGaussianError:
        total = None
    if total is None:
        return render[..., 3] > 0.5, False
    return resize(total, width, height)[..., 0] > 0.5, True


def _picture(render: np.ndarray, photo: np.ndarray, view: View) -> np.ndarray:
    """What the image shows.  # [H, W or 2 W, 3] sRGB"""
    shown = over(render, photo)
    if view == "SIDE":
        return np.concatenate([photo, over(render, np.full_like(photo, 0.5))], axis=1)
    if view == "BLEND":
        return 0.5 * photo + 0.5 * over(render, np.full_like(photo, 0.5))
    return np.clip(0.5 + _GAIN * (shown - photo), 0.0, 1.0)


def _show(colours: np.ndarray) -> None:
    """Fill the data-block; an Image Editor that shows it follows."""
    height, width, _ = colours.shape
    image: bpy.types.Image | None = bpy.data.images.get(IMAGE)
    if image is not None and tuple(image.size) != (width, height):
        image.scale(width, height)
    if image is None:
        image = bpy.data.images.new(IMAGE, width, height)
    rgba = np.ones((height, width, 4), np.float32)
    rgba[..., :3] = colours[::-1].clip(0.0, 1.0)
    image.pixels.foreach_set(rgba.ravel())  # type: ignore[attr-defined]  # an array of them
    image.update()
    image.pack()
