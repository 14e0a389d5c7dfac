# SPDX-License-Identifier: Apache-2.0
"""Reading HuGe100K (Zhuang et al. 2025, IDOL): pictures in videos/, parameters in param/.

    flux_batch1/images0/videos/NAME.jpg   the picture (NAME.mp4, the other views, is not used)
    flux_batch1/images0/param/NAME.npz    made from the data set's pickles (param/NAME.npy), which
                                          are never read here, by scripts/huge100k_to_npz.py:
        smpl_params  189 numbers: scale 1, transl 3, orientation 3, body 63, betas 10, left and
                     right hand 45 each, jaw, left and right eye 3 each, expression 10 (SMPL-X)
        viewmat      world to camera [4, 4] of the picture, intrinsics its fx, fy, cx, cy
    flux_batch1/images0/masks/NAME.png    optional, ours: the person; else a plain background counts

As in the data set's own viewer, scale and transl are not applied; hand poses are relative to
SMPL-X's mean hand, which is not added here (it moves no keypoint that is used).
"""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from crowdgaussian_shared.camera import Camera
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.npz import ArrayHeader, read_npz

from .image_files import read_image
from .training_person import BodyInPicture

_PARTS = (("scale", 1), ("transl", 3), ("root", 3), ("body", 63), ("betas", 10), ("left", 45),
          ("right", 45), ("jaw", 3), ("left_eye", 3), ("right_eye", 3), ("expression", 10))
_POSE = ("root", "body", "jaw", "left_eye", "right_eye", "left", "right")  # the order of 55 joints
_SHAPES = {"smpl_params": (sum(count for _, count in _PARTS),), "viewmat": (4, 4),
           "intrinsics": (4,)}
_PLAIN = 14  # levels that a plain background may differ from its corner
_SILHOUETTE = (0.02, 0.8)  # of the picture


def find_huge100k(folder: Path) -> dict[str, Path]:
    """Parameter files by name; images with the same name in several parts get the part's name.

    Raises:
        CrowdGaussianError: only the data set's pickles are there.
    """
    found: dict[str, Path] = {}
    if not any(folder.glob("**/param/*.npz")) and any(folder.glob("**/param/*.npy")):
        raise CrowdGaussianError(
            f"{folder} holds HuGe100K's pickles, which are not read; run "
            f"`python scripts/huge100k_to_npz.py {folder}` once.")
    for path in sorted(folder.glob("**/param/*.npz")):
        batch = path.parent.parent.relative_to(folder).as_posix()
        found[path.stem if batch == "." else f"{batch}/{path.stem}"] = path
    return found


def read_huge100k(path: Path) -> tuple[np.ndarray, np.ndarray, BodyInPicture]:
    """Picture [H, W, 3] uint8, mask [H, W] bool and body of one parameter file.

    Raises:
        CrowdGaussianError: a file is missing, damaged or not of this layout, or no mask is there
            and the background is not plain.
    """
    photo = read_image(path.parent.parent / "videos" / f"{path.stem}.jpg")
    values, viewmat, (fx, fy, cx, cy) = _parameters(path)
    edges = np.cumsum([count for _, count in _PARTS])[:-1]
    parts = dict(zip([name for name, _ in _PARTS], np.split(values, edges), strict=True))
    pose = np.concatenate([parts[name] for name in _POSE]).reshape(-1, 3)
    camera = Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), viewmat, photo.shape[1],
                    photo.shape[0])
    drawn = path.parent.parent / "masks" / f"{path.stem}.png"
    mask = read_image(drawn, "L") >= 128 if drawn.is_file() else silhouette(photo)
    return photo, mask, BodyInPicture(parts["betas"], pose, np.zeros(3), camera)


def silhouette(photo: np.ndarray) -> np.ndarray:
    """Everything that is not the plain background around it.  # [H, W, 3] uint8 -> [H, W] bool

    Raises:
        CrowdGaussianError: the background is not plain.
    """
    border = cv2.copyMakeBorder(photo, 1, 1, 1, 1, cv2.BORDER_CONSTANT,
                                value=[int(v) for v in np.median(photo[0], axis=0)])
    area = np.zeros((border.shape[0] + 2, border.shape[1] + 2), np.uint8)
    near = (_PLAIN,) * 3
    flags = 4 | (255 << 8) | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE
    cv2.floodFill(border, area, (0, 0), 0, near, near, flags)
    mask = area[2:-2, 2:-2] == 0
    if not _SILHOUETTE[0] <= mask.mean() <= _SILHOUETTE[1]:
        raise CrowdGaussianError("the background is not plain, so the person cannot be cut out; "
                                 "put a mask of the person beside it, in masks/.")
    return mask


def _parameters(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 189 numbers, world to camera [4, 4], and fx, fy, cx, cy of the picture."""
    arrays = read_npz(path, _check_shapes, _SHAPES, ours=False)
    return tuple(arrays[name].astype(np.float64) for name in _SHAPES)


def _check_shapes(headers: Mapping[str, ArrayHeader]) -> None:
    for name, shape in _SHAPES.items():
        if name not in headers or headers[name].shape != shape:
            raise CrowdGaussianError(
                f"{name} of a HuGe100K file is missing or of another shape than {shape}; run "
                "scripts/huge100k_to_npz.py on the data set again.")
