# SPDX-License-Identifier: Apache-2.0
"""Somebody is posed and refitted, left out, brought back, and added, by a real service."""

import hashlib
from pathlib import Path

from inside import GIVEN, bpy, people, session, settle, start, tell

row = start(GIVEN["photo"])
settle(row)
module = __import__("importlib").import_module("bl_ext.user_default.crowdgaussian.scene.people")


def rig(index):
    return next(p.rig for p in module.all_people(bpy.context.scene) if p.index == index)


def select(index):
    for obj in list(bpy.context.view_layer.objects):
        obj.select_set(obj == rig(index))


def meshes():
    return {p.index: p.splats.data.session_uid for p in module.all_people(bpy.context.scene)}


def hashes(folder):
    return {
        str(p.relative_to(folder)): hashlib.md5(p.read_bytes()).hexdigest()
        for p in Path(folder).glob("people/*/avatar.npz")
    }


before = meshes()
bone = rig(1).pose.bones["left_shoulder"]
bone.rotation_mode = "XYZ"
bone.rotation_euler.z = 0.5
bpy.context.view_layer.update()
wanted = module.read_pose(rig(1))[0][16].tolist()
select(1)
results = [list(bpy.ops.crowdgaussian.refit(wait=True))]
after = meshes()
one = session().rows[0]
stored = module.photo_pose(rig(1))[0][16].tolist()
select(2)
results.append(list(bpy.ops.crowdgaussian.leave_out(wait=True)))
left = people()
results.append(list(bpy.ops.crowdgaussian.bring_back(person=2, wait=True)))
results.append(list(bpy.ops.crowdgaussian.add_person(x0=100, y0=10, x1=130, y1=110, wait=True)))
tell(
    results=results,
    changed=[i for i in before if before[i] != after[i]],
    wanted=wanted,
    stored=stored,
    left=left,
    people=people(),
    titles=[r.title for r in session().rows],
    first=hashes(row.folder),
    second=hashes(one.folder),
    note=[r.note for r in session().rows],
)
