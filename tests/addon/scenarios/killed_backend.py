# SPDX-License-Identifier: Apache-2.0
"""The server is killed in mid-job, and the artist presses Continue."""

import os
import signal

from inside import GIVEN, bpy, people, pump_until, server_process, session, settle, start, tell

row = start(GIVEN["photo"])
pump_until(lambda: len(people()) >= 1)
first = server_process()
os.kill(first, signal.SIGKILL)
pump_until(lambda: row.state == "paused")
seen = {"trouble": row.trouble, "server": session().server.state, "people": len(people())}
bpy.ops.crowdgaussian.go_on(job=row.job)
settle(row)
tell(
    seen=seen,
    state=row.state,
    people=people(),
    restarted=server_process() != first,
    error=row.error,
)
