# SPDX-License-Identifier: Apache-2.0
"""Other files are opened while a job runs; its people stay out of them."""

from inside import GIVEN, bpy, people, pump, pump_until, settle, start, tell

row = start(GIVEN["photo"])
pump_until(lambda: len(people()) >= 1)
bpy.ops.wm.save_as_mainfile(filepath=GIVEN["blend"])
bpy.ops.wm.read_homefile(use_empty=True)
in_new_file = len(people())
pump_until(lambda: row.people_done >= 2)
pump()
in_new_file = max(in_new_file, len(people()))
bpy.ops.wm.open_mainfile(filepath=GIVEN["blend"])
settle(row)
at_home = people()
bpy.ops.wm.read_homefile(use_empty=True)
bpy.ops.crowdgaussian.import_again(job=row.job)
again = people()
bpy.ops.ed.undo_push(message="something of the artist's")
bpy.ops.crowdgaussian.remove_job(job=row.job)
tell(
    in_new_file=in_new_file,
    at_home=at_home,
    again=again,
    handlers=[
        f"{h.__module__}.{h.__name__}"
        for h in bpy.app.handlers.load_post
        if "crowdgaussian" in h.__module__
    ],
)
