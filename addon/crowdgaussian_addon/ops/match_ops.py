# SPDX-License-Identifier: GPL-3.0-or-later
"""The match check: what the scene shows from the photo's camera, beside the photo."""

import bpy
from bpy.props import EnumProperty, IntProperty

from ..scene.match import IMAGE, SOURCE, match_photo
from .steps import SteppedOperator, Steps


class CROWDGAUSSIAN_OT_match_photo(SteppedOperator, bpy.types.Operator):
    """Render what the photo's camera sees now and compare it with the photo, in an Image Editor"""

    bl_idname = "crowdgaussian.match_photo"
    bl_label = "Match Check"
    modes = {"OBJECT", "POSE"}

    view: EnumProperty(
        name="Show", description="How the two pictures are shown",
        items=(("SIDE", "Side by Side", "The photo on the left, the render on the right"),
               ("BLEND", "Overlay", "Half of each"),
               ("DIFFERENCE", "Difference", "Grey where they agree, four times amplified")),
    )
    width: IntProperty(name="Width", default=512, min=16, soft_max=2048, max=8192,
                       subtype="PIXEL", description="Of the render")

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Grey without a crowd that knows its photo."""
        reason = super().unavailable(context)
        known = any(SOURCE in c for c in context.scene.collection.children_recursive)
        return reason if reason or known else "No crowd of this scene knows its photo."

    def steps(self, context: bpy.types.Context) -> Steps:
        """Renders, compares, shows."""
        match = yield from match_photo(context.scene, self.width, self.view)
        _show_image(context)
        inside = "the photo's masks" if match.masks else "the rendered people"
        return f'{match.psnr:.1f} dB inside {inside}; see the image "{IMAGE}"'


def _show_image(context: bpy.types.Context) -> None:
    """In an Image Editor of this window, if there is one."""
    areas = context.screen.areas if context.screen is not None else ()
    area = next((area for area in areas if area.type == "IMAGE_EDITOR"), None)
    if area is not None:
        area.spaces.active.image = bpy.data.images[IMAGE]


CLASSES = (CROWDGAUSSIAN_OT_match_photo,)
