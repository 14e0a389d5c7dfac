# SPDX-License-Identifier: Apache-2.0
"""A UILayout that writes down what a panel draws; names and properties are checked with Blender."""

import bpy


class FakeLayout:
    """Every call is kept in `calls` as (method, arguments); children share the list."""

    def __init__(self, calls=None):
        object.__setattr__(self, "calls", [] if calls is None else calls)
        object.__setattr__(self, "enabled", True)

    def __setattr__(self, name, value):
        if not hasattr(bpy.types.UILayout, name) and name not in layout_properties():
            raise AttributeError(f"a layout has no {name}")
        object.__setattr__(self, name, value)

    def operator(self, name, **options):
        """A button whose operator must exist."""
        group, operator = name.split(".")
        kind = getattr(getattr(bpy.ops, group), operator).get_rna_type()
        check_icon(options)
        button = Button(kind)
        self.calls.append(("operator", name, options, button, self.enabled))
        return button

    def prop(self, data, name, **options):
        """A property that must exist."""
        assert name in data.bl_rna.properties, f"{data} has no {name}"
        check_icon(options)
        self.calls.append(("prop", name, options))

    def __getattr__(self, method):
        assert method in bpy.types.UILayout.bl_rna.functions, f"a layout has no {method}()"

        def call(*positional, **options):
            assert not positional, "Blender's layout takes keywords only"
            known = bpy.types.UILayout.bl_rna.functions[method].parameters.keys()
            assert set(options) <= set(known), f"{method}() does not take {set(options)}"
            check_icon(options)
            self.calls.append((method, options))
            return FakeLayout(self.calls)

        return call

    def texts(self):
        """Everything to read, in order."""
        found = []
        for call in self.calls:
            options = next((part for part in call if isinstance(part, dict)), {})
            found.append(options.get("text", ""))
        return [text for text in found if text]

    def buttons(self):
        """Names of the operators that can be pressed."""
        return [call[1] for call in self.calls if call[0] == "operator" and call[4]]


class Button:
    """What layout.operator returns."""

    def __init__(self, kind):
        object.__setattr__(self, "kind", kind)

    def __setattr__(self, name, value):
        assert name in self.kind.properties, f"{self.kind.identifier} has no {name}"
        object.__setattr__(self, name, value)


def layout_properties():
    return bpy.types.UILayout.bl_rna.properties.keys()


def check_icon(options):
    icons = bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items.keys()
    assert options.get("icon", "NONE") in icons, f"there is no icon {options['icon']}"
