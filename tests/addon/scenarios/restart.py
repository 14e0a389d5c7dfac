# SPDX-License-Identifier: Apache-2.0
"""Blender is closed in mid-job (`closing`), and opened again."""

from inside import GIVEN, bpy, people, pump_until, server_process, session, settle, start, tell

if GIVEN["closing"]:
    row = start(GIVEN["photo"])
    pump_until(lambda: row.people_done >= 1)
    tell(job=row.job, server=server_process())
else:
    row = session().rows[0]
    seen = {"state": row.state, "trouble": row.trouble, "title": row.title}
    bpy.ops.crowdgaussian.go_on(job=row.job)
    settle(row)
    tell(job=row.job, seen=seen, state=row.state, people=people(), rows=len(session().rows))
