# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user sees: the panel, its choices, the preferences."""

import bpy

from . import display, layout, panel, people, preferences

_CLASSES = (
    preferences.CrowdGaussianPreferences,
    preferences.CrowdGaussianChoice,
    panel.CROWDGAUSSIAN_PT_reconstruct,
    layout.CrowdGaussianLayout,
    *people.CLASSES,  # bl_order 1 and 3
    *layout.CLASSES,  # bl_order 2 and 5
    *display.CLASSES,  # bl_order 4
)


def register() -> None:
    """Registers the classes and the scene's choices."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.crowdgaussian_layout = bpy.props.PointerProperty(
        type=layout.CrowdGaussianLayout
    )
    bpy.types.Scene.crowdgaussian = bpy.props.PointerProperty(type=preferences.CrowdGaussianChoice)
    pointer = bpy.props.PointerProperty
    bpy.types.Scene.crowdgaussian_motion = pointer(type=people.CrowdGaussianMotion)


def unregister() -> None:
    """Undoes register()."""
    panel.clear()
    del bpy.types.Scene.crowdgaussian_layout
    del bpy.types.Scene.crowdgaussian_motion, bpy.types.Scene.crowdgaussian
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
