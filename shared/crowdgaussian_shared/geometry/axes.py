# SPDX-License-Identifier: Apache-2.0
"""The three frames and every sign flip between them.

opencv   x right, y down, z forward: cameras, and the world of 3DGS / COLMAP files
scene    x right, y up, z towards the viewer: SMPL-X axes; the ground is y = 0 and the photo camera
         stands at (0, height, 0) and looks along -z, so a person facing it has identity orientation
blender  x right, y away from the viewer, z up: a character faces -y

All are right-handed and metric, so a change of frame is a pure rotation about x.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from .avatar import Gaussians
from .rotations import matrix_to_quat, quat_multiply, quat_normalize
from .sh import rotate_sh

Frame = Literal["opencv", "scene", "blender"]

OPENCV_FROM_SCENE = np.diag([1.0, -1.0, -1.0])  # [3, 3]
SCENE_FROM_OPENCV = OPENCV_FROM_SCENE.T
BLENDER_FROM_SCENE = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # [3, 3]
SCENE_FROM_BLENDER = BLENDER_FROM_SCENE.T

# A Blender camera object looks along its -z with y up; an OpenCV camera along z with y down.
BLENDER_CAMERA_FROM_OPENCV_CAMERA = np.diag([1.0, -1.0, -1.0])
OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0])  # normal maps are coded in OpenGL's axes

_FROM_SCENE: dict[str, np.ndarray] = {
    "scene": np.eye(3),
    "opencv": OPENCV_FROM_SCENE,
    "blender": BLENDER_FROM_SCENE,
}


def frame_matrix(source: Frame, target: Frame) -> np.ndarray:
    """B with x_target = B x_source.  # [3, 3] float64"""
    return _FROM_SCENE[target] @ _FROM_SCENE[source].T


def convert_points(points: np.ndarray, source: Frame, target: Frame) -> np.ndarray:
    """Points or directions into another frame.  # [..., 3] -> [..., 3], dtype kept"""
    points = np.asarray(points)
    return points @ frame_matrix(source, target).T.astype(points.dtype)


def convert_rotations(rotations: np.ndarray, source: Frame, target: Frame) -> np.ndarray:
    """Rotations that act inside the frame, such as joint rotations: B R B^T.  # [..., 3, 3]"""
    rotations = np.asarray(rotations)
    change = frame_matrix(source, target).astype(rotations.dtype)
    return change @ rotations @ change.T


def convert_orientations(orientations: np.ndarray, source: Frame, target: Frame) -> np.ndarray:
    """Axes of things placed in the frame, such as Gaussians: B R.  # [..., 3, 3]"""
    orientations = np.asarray(orientations)
    return frame_matrix(source, target).astype(orientations.dtype) @ orientations


def convert_quats(quats: np.ndarray, source: Frame, target: Frame) -> np.ndarray:
    """The same as convert_orientations for wxyz quaternions.  # [..., 4] -> [..., 4], w >= 0"""
    quats = np.asarray(quats)
    change = matrix_to_quat(frame_matrix(source, target)).astype(quats.dtype)
    return quat_normalize(quat_multiply(np.broadcast_to(change, quats.shape), quats))


def convert_gaussians(gaussians: Gaussians, source: Frame, target: Frame) -> Gaussians:
    """Centres, axes and spherical harmonics into another frame."""
    change = frame_matrix(source, target)
    return replace(
        gaussians,
        means=convert_points(gaussians.means, source, target),
        quats=convert_quats(gaussians.quats, source, target),
        sh=rotate_sh(gaussians.sh, change),
    )


def scene_to_blender(points: np.ndarray) -> np.ndarray:
    """(x, y, z) -> (x, -z, y).  # [..., 3] -> [..., 3]"""
    return convert_points(points, "scene", "blender")


def camera_at_origin() -> np.ndarray:
    """The viewmat of a camera that looks along -z of its own scene axes.  # [4, 4]"""
    viewmat = np.eye(4)
    viewmat[:3, :3] = OPENCV_FROM_SCENE
    return viewmat


def scene_viewmat(height: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """The viewmat of the photo camera at (0, height, 0).

    Args:
        height: metres above the ground.
        pitch: radians, positive looks down.
        roll: radians about the viewing direction, positive turns the camera clockwise as the
            photographer sees it, so the picture turns counter-clockwise.

    Returns:
        [4, 4] float64, scene frame -> OpenCV camera frame.
    """
    cp, sp, cr, sr = np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    viewmat = np.eye(4)
    viewmat[:3, :3] = turn @ tilt @ OPENCV_FROM_SCENE
    viewmat[:3, 3] = viewmat[:3, :3] @ np.array([0.0, -height, 0.0])
    return viewmat


def viewmat_to_blender_camera(viewmat: np.ndarray) -> np.ndarray:
    """viewmat (scene -> OpenCV camera) to matrix_world of a Blender camera.  # [4, 4] -> [4, 4]"""
    camera_to_scene = np.linalg.inv(np.asarray(viewmat, dtype=np.float64))
    world = np.eye(4)
    world[:3, :3] = (
        BLENDER_FROM_SCENE @ camera_to_scene[:3, :3] @ BLENDER_CAMERA_FROM_OPENCV_CAMERA.T
    )
    world[:3, 3] = BLENDER_FROM_SCENE @ camera_to_scene[:3, 3]
    return world


def blender_camera_to_viewmat(matrix_world: np.ndarray) -> np.ndarray:
    """The inverse of viewmat_to_blender_camera.  # [4, 4] -> [4, 4]"""
    world = np.asarray(matrix_world, dtype=np.float64)
    camera_to_scene = np.eye(4)
    camera_to_scene[:3, :3] = SCENE_FROM_BLENDER @ world[:3, :3] @ BLENDER_CAMERA_FROM_OPENCV_CAMERA
    camera_to_scene[:3, 3] = SCENE_FROM_BLENDER @ world[:3, 3]
    return np.linalg.inv(camera_to_scene)
