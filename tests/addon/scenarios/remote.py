# SPDX-License-Identifier: Apache-2.0
"""Servers that are not started by the add-on: what is refused, and a pairing line that works."""

from inside import GIVEN, PREFERENCES, bpy, people, session, tell

PREFERENCES.place = "THERE"


def attempt(**named):
    """Reconstructs with a server -> what the operator says."""
    for name in ("address", "pairing"):
        setattr(PREFERENCES, name, named.get(name, ""))
    try:
        bpy.ops.crowdgaussian.reconstruct(filepath=GIVEN["photo"], wait=True, patience=1.0)
    except RuntimeError as error:
        return str(error)
    return ""


refused = {
    "nothing": attempt(),
    "no pairing": attempt(address="tcp://192.0.2.1:5555"),
    "offline": attempt(address="tcp://192.0.2.1:5555", pairing=GIVEN["pairing"]),
    "nobody there": attempt(address=f"tcp://127.0.0.1:{GIVEN['free_port']}"),
    "keys wanted": attempt(address=f"tcp://127.0.0.1:{GIVEN['port']}"),
}
online = bpy.app.online_access
paired = attempt(address=f"tcp://127.0.0.1:{GIVEN['port']}", pairing=GIVEN["pairing"])
tell(refused=refused, online=online, paired=paired, people=people(), ready=session().server.state)
