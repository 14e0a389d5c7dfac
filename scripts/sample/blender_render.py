# SPDX-License-Identifier: Apache-2.0
"""Render the staged figures with Cycles: the picture, and each person's coverage for the masks.

Run by render_sample.py with Blender's Python:  -m sample.blender_render STAGE_FOLDER
BLENDER_USER_RESOURCES must name a folder that Blender may write to.
"""

import json
import sys
from pathlib import Path

import bpy

from . import blender_people, blender_stage


def _cycles(settings: dict) -> None:
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"  # type: ignore[assignment]
    scene.render.resolution_percentage = settings["percent"]
    scene.render.threads_mode, scene.render.threads = "FIXED", settings["threads"]
    cycles = scene.cycles
    cycles.device, cycles.samples = "CPU", settings["samples"]
    cycles.use_adaptive_sampling, cycles.adaptive_threshold = True, 0.03
    cycles.use_denoising, cycles.denoiser = settings["denoise"], "OPENIMAGEDENOISE"
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 6, 3, 2
    cycles.transmission_bounces, cycles.transparent_max_bounces = 4, 8
    cycles.seed, cycles.sample_clamp_indirect = 1, 8.0
    scene.cycles_curves.shape = "RIBBONS"


def _photo(path: Path, exposure: float) -> None:
    scene = bpy.context.scene
    scene.view_settings.view_transform = "AgX"  # type: ignore[assignment]
    scene.view_settings.look = "AgX - Medium High Contrast"  # type: ignore[assignment]
    scene.view_settings.exposure = exposure
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def _coverage(folder: Path, people: list[int]) -> None:
    """Alpha of each person: what is seen (visible_k.png), and alone (amodal_k.png)."""
    scene = bpy.context.scene
    scene.render.film_transparent = True
    scene.camera.data.dof.use_dof = False
    scene.cycles.samples, scene.cycles.use_denoising = 5, False
    scene.cycles.use_adaptive_sampling, scene.cycles.max_bounces = False, 0
    scene.render.image_settings.color_mode = "RGBA"
    scene.view_settings.view_transform = "Standard"  # type: ignore[assignment]
    grey = bpy.data.materials.new("coverage")
    bpy.context.view_layer.material_override = grey
    for thing in scene.objects:
        if thing.type != "CAMERA" and thing.get("person") is None:
            thing.hide_render = True
    figures = [thing for thing in scene.objects if thing.get("person") is not None]
    for person in people:
        for kind in ("visible", "amodal"):
            for thing in figures:
                other = thing["person"] != person
                thing.is_holdout = other and kind == "visible"
                thing.hide_render = other and kind == "amodal"
            scene.render.filepath = str(folder / f"{kind}_{person}.png")
            bpy.ops.render.render(write_still=True)


def main(folder: Path) -> None:
    """Build the scene from the stage folder and render it there."""
    stage = json.loads((folder / "stage.json").read_text())
    bpy.ops.wm.read_factory_settings(use_empty=True)
    _cycles(stage["render"])
    blender_stage.build_ground()
    blender_stage.light()
    blender_stage.place_camera(stage["camera"])
    for person in stage["people"]:
        blender_people.add_figure(folder / f"person{person}", person)
    _photo(folder / "photo.png", stage["render"]["exposure"])
    if stage["render"]["coverage"]:
        _coverage(folder, stage["people"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
