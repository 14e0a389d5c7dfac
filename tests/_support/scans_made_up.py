# SPDX-License-Identifier: Apache-2.0
"""Scans in THuman2.1's layout, made of the open body."""

import numpy as np
from crowdgaussian.body import load_body
from crowdgaussian.body.model import pose_body
from crowdgaussian.synthetic.people import draw_parameters
from crowdgaussian.synthetic.scenes import moved_body
from crowdgaussian_shared.formats.npz import write_npz
from PIL import Image

BODY = load_body("open")
UNITS = {"0001": 1.0, "0002": 0.4}  # of the scans in a metre; the second is lying, z up
TURN = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up -> z up
TOP, BOTTOM = (200, 40, 40), (40, 60, 220)


POSE_NAMES = (
    "global_orient",
    "body_pose",
    "jaw_pose",
    "leye_pose",
    "reye_pose",
    "left_hand_pose",
    "right_hand_pose",
)


def add_person(folder, name):
    """A body as a scan whose texture is red above and blue below; returns its points, upright."""
    given = draw_parameters(BODY, np.random.default_rng(int(name)))
    posed = pose_body(BODY, given)
    upright = posed.pose_points(posed.rest)
    turn = TURN if name == "0002" else np.eye(3)
    moved = moved_body(BODY, given, turn, np.zeros(3))
    place = folder / "scans" / name
    place.mkdir(parents=True)
    height = upright[:, 1] / upright[:, 1].max()
    lines = ["mtllib material0.mtl", "usemtl material0"]
    lines += ["v {:.5f} {:.5f} {:.5f}".format(*p) for p in upright @ turn.T * UNITS[name]]
    lines += [f"vt 0.5 {v:.4f}" for v in height]
    lines += ["f " + " ".join(f"{k}/{k}" for k in face) for face in BODY.faces.numpy() + 1]
    (place / f"{name}.obj").write_text("\n".join(lines))
    (place / "material0.mtl").write_text("newmtl material0\nmap_Kd material0.jpeg\n")
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:32], texture[32:] = TOP, BOTTOM
    Image.fromarray(texture).save(place / "material0.jpeg", quality=95)
    pose = moved.pose.reshape(-1)
    parts = np.split(pose, np.cumsum([3, 63, 3, 3, 3, 45]))
    (folder / "fits" / name).mkdir(parents=True)
    write_npz(
        folder / "fits" / name / "open_param.npz",
        {
            **dict(zip(POSE_NAMES, parts, strict=True)),
            "betas": moved.betas,
            "transl": moved.transl,
            "scale": np.array(UNITS[name]),
        },
    )
    return upright
