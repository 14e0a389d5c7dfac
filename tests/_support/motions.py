# SPDX-License-Identifier: Apache-2.0
"""Motions for the tests: a smooth one, the folder that LHM writes, how far apart poses are."""

import json

import numpy as np
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowdgaussian_shared.motion.motion import Motion


def smooth(frames: int, fps: float = 30.0, seed: int = 0) -> Motion:
    """Every joint swings slowly; the pelvis travels."""
    rng = np.random.default_rng(seed)
    times = np.arange(frames)[:, None, None] / fps
    poses = rng.normal(0, 0.8, (1, 55, 3)) + 0.4 * np.sin(
        times * rng.uniform(1, 3, (1, 55, 1)) + rng.uniform(0, 6, (1, 55, 1))
    ) * rng.normal(0, 1, (1, 55, 3))
    transl = np.stack([np.sin(times[:, 0, 0]), 1 + 0 * times[:, 0, 0], times[:, 0, 0]], axis=1)
    return Motion("smooth", fps, poses, transl, contacts=rng.random((frames, 4)) < 0.5)


def degrees_between(a: np.ndarray, b: np.ndarray) -> float:
    """The largest angle between rotations given as axis-angles."""
    turn = axis_angle_to_matrix(a).swapaxes(-1, -2) @ axis_angle_to_matrix(b)
    cosine = (np.trace(turn, axis1=-2, axis2=-1) - 1) / 2
    sine = np.linalg.norm(turn - turn.swapaxes(-1, -2), axis=(-2, -1)) / np.sqrt(8)
    return float(np.degrees(np.arctan2(sine, cosine)).max())


def write_lhm(path, poses, transl, camera=None):
    flip = np.diag([1.0, -1.0, -1.0]) @ (np.eye(3) if camera is None else camera)
    (path / "smplx_params").mkdir(parents=True)
    for k, (pose, place) in enumerate(zip(poses, transl)):
        root = matrix_to_axis_angle(flip @ axis_angle_to_matrix(pose[0]))
        frame = {"root_pose": root, "body_pose": pose[1:22], "jaw_pose": pose[22],
                 "lhand_pose": pose[25:40], "rhand_pose": pose[40:], "trans": flip @ place,
                 "betas": np.zeros(10)}  # fmt: skip
        text = json.dumps({name: np.asarray(value).tolist() for name, value in frame.items()})
        (path / "smplx_params" / f"{k + 1:05d}.json").write_text(text)
    return path
