# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user sees: the panel, its choices, the preferences."""

import bpy

from . import export, layout, panel, people, preferences, properties, thumbnail

_CLASSES = (
    preferences.CrowdGaussianPreferences,
    properties.CrowdGaussianChoice,
    panel.CROWDGAUSSIAN_PT_reconstruct,
    *people.CLASSES,  # bl_order 1
    *layout.CLASSES,  # bl_order 2; then motion 3, display 4, export 5
    *export.CLASSES,  # bl_order 5
)


def register() -> None:
    """Registers the classes and the scene's choices."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.crowdgaussian = bpy.props.PointerProperty(type=properties.CrowdGaussianChoice)


def unregister() -> None:
    """Undoes register()."""
    thumbnail.clear()
    del bpy.types.Scene.crowdgaussian
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
