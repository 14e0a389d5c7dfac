# SPDX-License-Identifier: Apache-2.0
"""A photo reconstructed by the operator, as a script does it."""

import sys
from pathlib import Path

from inside import GIVEN, bpy, module, people, pump, server_process, session, tell

options = GIVEN.get("options", {})
result = bpy.ops.crowdgaussian.reconstruct(filepath=GIVEN["photo"], wait=True, **options)
row = session().rows[0]
import zmq  # noqa: E402

everybody = module("scene.people").all_people(bpy.context.scene)
read_gaussians = module("scene.splats.build").read_gaussians
means = [
    read_gaussians(person.splats).means.tolist()
    for person in sorted(everybody, key=lambda person: person.index)
]
counts = [len(people())]
for step in (bpy.ops.ed.undo, bpy.ops.ed.redo):
    step()
    pump()
    counts.append(len(people()))
tell(
    result=list(result),
    means=means,
    people=people(),
    row=vars(row),
    undo=counts,
    folder=row.folder,
    cameras=len(bpy.data.cameras),
    scene_camera=bpy.context.scene.camera.name,
    wheels=[str(Path(m.__file__).parent) for m in (zmq, module("crowdgaussian_shared"))],
    top_level=sorted(name for name in sys.modules if name.startswith("crowdgaussian")),
    server=server_process(),
    paths=[p for p in sys.path if "crowdgaussian" in p],
)
