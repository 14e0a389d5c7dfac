# SPDX-License-Identifier: Apache-2.0
"""Many photos, one of them broken; twice, so that the second time has nothing left to do."""

import time

from inside import GIVEN, bpy, module, tell

batch = module("scripting.batch")
said = []
runs = []
for _ in range(2):
    started = time.monotonic()
    results = batch.reconstruct_photos(GIVEN["photos"], GIVEN["out"], tell=said.append)
    runs.append({"seconds": time.monotonic() - started, "results": [vars(r) for r in results]})
blend = next(r.blend_file for r in results if r.blend_file)
bpy.ops.wm.open_mainfile(filepath=str(blend))
tell(runs=runs, said=said, people=[c.name for c in bpy.data.collections if "Person" in c.name])
