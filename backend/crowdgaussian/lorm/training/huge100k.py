# SPDX-License-Identifier: Apache-2.0
"""HuGe100K (Zhuang et al. 2025, IDOL), in the layout it is published in.

    videos/NAME.mp4   24 frames of 640 x 896 pixels all around a person; frame i has poses[i]
    videos/NAME.jpg   768 x 1072: what the video was made from, in another pose and without a
                      camera; it is not read
    param/NAME.npz    made from param/NAME.npy, which is a pickle, by scripts/huge100k_to_npz.py:
                      smpl_params [189], viewmats [F, 4, 4] world to camera, intrinsics [F, 4]
    masks/NAME.png    of your own, if the background is not plain: the person in the frame

Of each video one frame is read, the most frontal one, with its own camera.
"""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from crowdgaussian_shared.errors import DamagedFileError, InputError, MissingFileError
from crowdgaussian_shared.formats.npz import ArrayHeader, read_npz
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix

from ...core.crop import read_image

_PARTS = (
    ("scale", 1),
    ("transl", 3),
    ("root", 3),
    ("body", 63),
    ("betas", 10),
    ("left", 45),
    ("right", 45),
    ("jaw", 3),
    ("left_eye", 3),
    ("right_eye", 3),
    ("expression", 10),
)
_POSE = ("root", "body", "jaw", "left_eye", "right_eye", "left", "right")  # the order of 55 joints
_NUMBERS = sum(count for _, count in _PARTS)
_ARRAYS = ("smpl_params", "viewmats", "intrinsics")
_PLAIN = 14  # levels that a plain background may differ from its corner
_SILHOUETTE = (0.02, 0.8)  # of the picture
# Degrees between the body's front and the camera up to which a view is frontal; of 24 views all
# around the nearest is at most 7.5 away, so that only an orbit that leaves out the front has none.
_FRONTAL = 30.0
_OFF_CENTRE = 0.1  # of a side, by which the principal point may miss the middle of its picture

Read = tuple[np.ndarray, np.ndarray, BodyParams, Camera]


def find_huge100k(folder: Path) -> dict[str, Path]:
    """Parameter files by name; images with the same name in several parts get the part's name.

    Raises:
        InputError: only the data set's pickles are there.
    """
    found: dict[str, Path] = {}
    if not any(folder.glob("**/param/*.npz")) and any(folder.glob("**/param/*.npy")):
        raise InputError(
            f"{folder} holds HuGe100K's pickles, which are not read; run "
            f"`python scripts/huge100k_to_npz.py {folder}` once."
        )
    for path in sorted(folder.glob("**/param/*.npz")):
        batch = path.parent.parent.relative_to(folder).as_posix()
        found[path.stem if batch == "." else f"{batch}/{path.stem}"] = path
    return found


def read_huge100k(path: Path) -> Read:
    """The most frontal frame [H, W, 3] uint8, mask [H, W] bool, body and camera of one person.

    Raises:
        CrowdGaussianError: a file is missing, damaged or not of this layout, no frame shows the
            person from the front, or no mask is there and the background is not plain.
    """
    values, viewmats, lenses = _parameters(path)
    edges = np.cumsum([count for _, count in _PARTS])[:-1]
    parts = dict(zip([name for name, _ in _PARTS], np.split(values, edges), strict=True))
    pose = np.concatenate([parts[name] for name in _POSE]).reshape(-1, 3)
    frame = frontal_frame(viewmats, parts["root"])
    video = path.parent.parent / "videos" / f"{path.stem}.mp4"
    photo = read_frame(video, frame, len(viewmats))
    camera = _camera(lenses[frame], viewmats[frame], photo, video)
    drawn = path.parent.parent / "masks" / f"{path.stem}.png"
    mask = read_image(drawn, "L") >= 128 if drawn.is_file() else silhouette(photo)
    return photo, mask, BodyParams(parts["betas"], pose, np.zeros(3)), camera


def frontal_frame(viewmats: np.ndarray, root: np.ndarray) -> int:
    """The frame whose camera stands most in front of the body, looked at from above.

    Args:
        viewmats: world to camera.  # [F, 4, 4]
        root: turn of the whole body, axis-angle; without it the body faces +z.  # [3] radians

    Raises:
        InputError: none is within 30 degrees of the front.
    """
    front = axis_angle_to_matrix(root)[[0, 2], 2]
    eyes = np.array([Camera(np.eye(3), viewmat, 1, 1).eye for viewmat in viewmats])[:, [0, 2]]
    lengths = np.linalg.norm(eyes, axis=1) * np.linalg.norm(front)
    cosines = eyes @ front / np.maximum(lengths, 1e-9)
    best = int(cosines.argmax())
    degrees = float(np.degrees(np.arccos(np.clip(cosines[best], -1, 1))))
    if not degrees <= _FRONTAL:
        raise InputError(
            f"no frame shows the person from the front, the nearest is {degrees:.0f} degrees to "
            "the side."
        )
    return best


def read_frame(path: Path, index: int, count: int) -> np.ndarray:
    """One frame of a video.  # [H, W, 3] uint8 sRGB

    Args:
        path: of the video.
        index: which frame, from 0.
        count: of all frames; with another number, frames and cameras are not pairs.

    Raises:
        CrowdGaussianError: the file is missing or no video, or has another number of frames.
    """
    if not path.is_file():
        raise MissingFileError(f"The video {path} is missing.")
    video, found, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), None, 0
    try:
        while frames <= count and video.grab():
            if frames == index:
                found = video.retrieve()[1]
            frames += 1
    finally:
        video.release()
    if not frames:
        raise DamagedFileError(
            f"{path} cannot be read as a video; copy it again (videos are read by FFmpeg, which "
            "the wheels of opencv-python-headless hold)."
        )
    if found is None or frames != count:
        raise DamagedFileError(
            f"{path} has {'more' if frames > count else frames} frames where its parameters have "
            f"{count} cameras."
        )
    return cv2.cvtColor(found, cv2.COLOR_BGR2RGB)


def silhouette(photo: np.ndarray) -> np.ndarray:
    """Everything that is not the plain background around it.  # [H, W, 3] uint8 -> [H, W] bool

    Raises:
        InputError: the background is not plain.
    """
    border = cv2.copyMakeBorder(
        photo, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=[int(v) for v in np.median(photo[0], axis=0)]
    )
    area = np.zeros((border.shape[0] + 2, border.shape[1] + 2), np.uint8)
    near = (_PLAIN,) * 3
    flags = 4 | (255 << 8) | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE
    cv2.floodFill(border, area, (0, 0), 0, near, near, flags)
    mask = area[2:-2, 2:-2] == 0
    if not _SILHOUETTE[0] <= mask.mean() <= _SILHOUETTE[1]:
        raise InputError(
            "the background is not plain, so the person cannot be cut out; "
            "put a mask of the person beside it, in masks/."
        )
    return mask


def _camera(lens: np.ndarray, viewmat: np.ndarray, photo: np.ndarray, path: Path) -> Camera:
    fx, fy, cx, cy = lens
    height, width = photo.shape[:2]
    if abs(2 * cx / width - 1) > _OFF_CENTRE or abs(2 * cy / height - 1) > _OFF_CENTRE:
        raise DamagedFileError(
            f"{path} has {width} x {height} pixels, its camera is of a picture of about "
            f"{2 * cx:.0f} x {2 * cy:.0f}."
        )
    return Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), viewmat, width, height)


def _parameters(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 189 numbers, world to camera [F, 4, 4], and fx, fy, cx, cy [F, 4] of every frame."""
    arrays = read_npz(path, _check_shapes, _ARRAYS, ours=False)
    body, viewmats, lenses = (arrays[name].astype(np.float64) for name in _ARRAYS)
    return body, viewmats, lenses


def _check_shapes(headers: Mapping[str, ArrayHeader]) -> None:
    found = {name: header.shape for name, header in headers.items()}
    frames = found.get("viewmats", (0,))[:1]
    wanted = {"smpl_params": (_NUMBERS,), "viewmats": (*frames, 4, 4), "intrinsics": (*frames, 4)}
    for name, shape in wanted.items():
        if found.get(name) != shape or 0 in shape:
            raise DamagedFileError(
                f"{name} of a HuGe100K file is missing or has not one entry a frame; run "
                "scripts/huge100k_to_npz.py on the data set again."
            )
