# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user sees: the panel, its choices, the preferences."""

import bpy

from . import panel, preferences, properties, thumbnail

_CLASSES = (preferences.CrowdGaussianPreferences, properties.CrowdGaussianChoice,
            panel.CROWDGAUSSIAN_PT_reconstruct)


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
