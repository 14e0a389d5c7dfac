# SPDX-License-Identifier: GPL-3.0-or-later
"""Every button, option and choice that a user can see says what it does."""

import bpy
import crowdgaussian_addon
import pytest
from crowdgaussian_addon import ops, ui

_BROWSER = {"filepath", "directory"}  # the file browser's own field has no tooltip


@pytest.fixture(scope="module")
def addon():
    crowdgaussian_addon.register()
    yield
    crowdgaussian_addon.unregister()


def test_operators_and_their_options(addon):
    silent = []
    for cls in ops._CLASSES:
        group, name = cls.bl_idname.split(".")
        kind = getattr(getattr(bpy.ops, group), name).get_rna_type()
        if kind.description in ("", "(undocumented operator)"):
            silent.append(cls.bl_idname)
        silent += unexplained(kind, cls.bl_idname)
    assert silent == []


def test_the_choices_of_the_panels(addon):
    groups = [cls for cls in ui._CLASSES if issubclass(cls, bpy.types.PropertyGroup)]
    assert len(groups) == 3
    assert [name for cls in groups for name in unexplained(cls.bl_rna, cls.__name__)] == []


def unexplained(kind, owner):
    """Names of the properties and choices without a tooltip."""
    found = []
    for prop in kind.properties:
        if prop.is_hidden or prop.identifier in {"rna_type", "name", *_BROWSER}:
            continue
        if not prop.description:
            found.append(f"{owner}: {prop.identifier}")
        if prop.type == "ENUM":
            found += [f"{owner}: {prop.identifier}: {item.identifier}"
                      for item in prop.enum_items if not item.description]  # fmt: skip
    return found
