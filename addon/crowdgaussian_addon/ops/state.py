# SPDX-License-Identifier: GPL-3.0-or-later
"""The one session of this Blender, and what the preferences say about it."""

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import bpy
from crowdgaussian_shared.errors import CrowdGaussianError, SettingError

from ..jobs.session import Session, Target
from ..scene.shot import Shot

ADDON = __package__.rpartition(".")[0]  # bl_ext.user_default.crowdgaussian when it is installed


class Preferences(Protocol):
    """What the add-on's preferences hold; ui/preferences.py has them in full."""

    place: str
    backend: str
    address: str
    pairing: str
    first_look: Literal["ASK", "ALWAYS", "NEVER"]


_session: Session | None = None
complaint = ""  # why the last button did nothing, and what to do
first_look: Literal["", "ASKED", "OFFERED"] = ""  # what the panel says about the view


def session() -> Session:
    """The session; made when it is first needed."""
    global _session
    if _session is None:
        version = import_module(ADDON).__version__
        _session = Session(cache_folder(), f"blender-addon {version}")
    return _session


def threads_at_rest() -> AbstractContextManager[object]:
    """No thread of the session runs Python while the block runs."""
    return nullcontext() if _session is None else _session.threads_at_rest()


def close_session() -> None:
    """Lets go of the server; the job table is saved."""
    global _session
    if _session is not None:
        _session.close()
        _session = None


def complain(sentence: str) -> None:
    """Shows a sentence below the Reconstruct button; an empty one clears it."""
    global complaint
    complaint = sentence


def preferences() -> Preferences | None:
    """The add-on's preferences; None when it was not enabled through Blender."""
    addon: bpy.types.Addon | None = bpy.context.preferences.addons.get(ADDON)
    return cast(Preferences, addon.preferences) if addon else None


def first_look_wish() -> str:
    """Whether the view shows people when a crowd comes in; see ops/viewport.py."""
    return getattr(preferences(), "first_look", "ASK")


def remember_first_look(wish: Literal["ALWAYS", "NEVER"]) -> None:
    """The artist has answered; Blender saves its preferences by itself."""
    chosen = preferences()
    if chosen is not None:
        chosen.first_look = wish
        bpy.context.preferences.is_dirty = True


def choices(context: bpy.types.Context, name: str) -> Any:
    """What the panels let a user choose: a group of properties that ui/ gives every scene."""
    return getattr(context.scene, name)


def shot_of(scene: bpy.types.Scene) -> Shot:
    """What the artist chose for crowds that come into a scene."""
    return cast(Any, scene).crowdgaussian.shot


def cache_folder() -> Path:
    """Where jobs, scenes and the local server's data lie."""
    chosen = getattr(preferences(), "cache", "")
    if chosen:
        return Path(bpy.path.abspath(chosen))
    try:
        return Path(bpy.utils.extension_path_user(ADDON, path="cache", create=True))
    except ValueError:  # run from a source folder, not as an extension
        return Path(bpy.utils.user_resource("DATAFILES", path="crowdgaussian", create=True))


def find_target() -> Target:
    """The server that the preferences name; what is wrong stays readable beside the server.

    Raises:
        SettingError: as in _target.
    """
    try:
        return _target()
    except CrowdGaussianError as error:
        session().server.sentence = str(error)
        raise


def _target() -> Target:
    """The server that the preferences name.

    Raises:
        SettingError: none is chosen, the address or the pairing line is wrong, or Blender is
            not allowed to go online.
    """
    prefs = preferences()
    if prefs is None:
        raise SettingError("Enable the CrowdGaussian extension in Blender's preferences.")
    if prefs.place == "HERE":
        return Target(backend=bpy.path.abspath(prefs.backend))
    from crowdgaussian_shared.client.server import Server

    if not prefs.address.strip() and not prefs.pairing.strip():
        raise SettingError(
            "No server is named; paste the pairing line in the add-on's preferences."
        )
    server = Server.parse(prefs.address, prefs.pairing)
    if not server.loopback and not bpy.app.online_access:
        raise SettingError(
            f"Blender may not go online, so {server} is out of reach; turn on Allow Online Access "
            "in Preferences > System."
        )
    return Target(server=server)
