# SPDX-License-Identifier: Apache-2.0
"""Cancel: at once, and the people that are finished stay; then Try Again."""

import time

from inside import GIVEN, bpy, people, pump_until, settle, start, tell

row = start(GIVEN["photo"])
pump_until(lambda: len(people()) >= 1)
pressed = time.monotonic()
bpy.ops.crowdgaussian.cancel(job=row.job)
settle(row)
cancelled = {"state": row.state, "people": len(people()), "seconds": time.monotonic() - pressed}
bpy.ops.crowdgaussian.go_on(job=row.job)
settle(row)
tell(cancelled=cancelled, state=row.state, people=people())
