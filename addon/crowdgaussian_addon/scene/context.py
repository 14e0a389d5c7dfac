# SPDX-License-Identifier: GPL-3.0-or-later
"""The context that operators run in: another one for a while, and a scene aside.

Blender 4.5 crashes when an operator runs under an override of the context while another thread
runs Python: it looks into the override without Python's lock if the lock is just then somebody
else's (`BPY_context_member_get`; 5.2 asks whose it is). So our own threads rest meanwhile, and
nothing else in the add-on calls `temp_override`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import bpy
from crowdgaussian_shared.errors import ResourceError

Rest = Callable[[], AbstractContextManager[object]]

_rest: Rest = nullcontext
_resting = False


def rest_with(rest: Rest) -> None:
    """Says how the add-on's threads are brought to rest while a block runs; nullcontext: none."""
    global _rest
    _rest = rest


@contextmanager
def override(**members: Any) -> Iterator[None]:
    """Operators in the block see these members of the context; our threads rest meanwhile.

    Args:
        members: as for bpy.types.Context.temp_override.
    """
    with _rested(), bpy.context.temp_override(**members):
        yield


@contextmanager
def _rested() -> Iterator[None]:
    """Asks for rest once, however many overrides lie in one another."""
    global _resting
    if _resting:
        yield
        return
    with _rest():
        _resting = True
        try:
            yield
        finally:
            _resting = False


@contextmanager
def aside() -> Iterator[bpy.types.Scene]:
    """A scene of its own for operators, which bring the scene that they run in up to date.

    However many splats the artist's scene holds, they are not evaluated here. The scene is empty
    and gone afterwards; what was linked to it stays in the file.
    """
    scene = bpy.data.scenes.new("CrowdGaussian Aside")
    try:
        with override(scene=scene, view_layer=scene.view_layers[0]):
            yield scene
    finally:
        bpy.data.scenes.remove(scene)


@contextmanager
def shown(scene: bpy.types.Scene) -> Iterator[None]:
    """The window shows another scene while the block runs: importers and exporters want one.

    Raises:
        ResourceError: there is no window.
    """
    window = bpy.context.window or next(iter(bpy.context.window_manager.windows), None)
    if window is None:
        raise ResourceError(
            "Blender's importers and exporters need a window, also in the background; "
            "open the file again."
        )
    theirs, window.scene = window.scene, scene
    try:
        with override(window=window, scene=scene, view_layer=scene.view_layers[0]):
            yield
    finally:
        window.scene = theirs
