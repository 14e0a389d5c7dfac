# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user sees: the panel, its choices, the preferences."""

from typing import Any

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

_CHOICES = {  # properties of a scene
    "crowdgaussian": preferences.CrowdGaussianChoice,
    "crowdgaussian_layout": layout.CrowdGaussianLayout,
    "crowdgaussian_motion": people.CrowdGaussianMotion,
}


def register() -> None:
    """Registers the classes and the scene's choices."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    pointer: Any = bpy.props.PointerProperty  # which is said to return nothing
    for name, group in _CHOICES.items():
        setattr(bpy.types.Scene, name, pointer(type=group))


def unregister() -> None:
    """Undoes register()."""
    panel.clear()
    for name in _CHOICES:
        delattr(bpy.types.Scene, name)
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
