# SPDX-License-Identifier: Apache-2.0
"""Reading HuGe100K (Zhuang et al. 2025, IDOL): pictures in videos/, parameters in param/.

    flux_batch1/images0/videos/NAME.jpg   the picture (NAME.mp4, the other views, is not used)
    flux_batch1/images0/param/NAME.npy    a pickled dictionary of torch tensors:
        smpl_params  189 numbers: scale 1, transl 3, orientation 3, body 63, betas 10, left and
                     right hand 45 each, jaw, left and right eye 3 each, expression 10 (SMPL-X)
        poses        one (world to camera [4, 4], (fx, fy, cx, cy)) a view; the picture is the first
    flux_batch1/images0/masks/NAME.png    optional, ours: the person; else a plain background counts

As in the data set's own viewer, scale and transl are not applied; hand poses are relative to
SMPL-X's mean hand, which is not added here (it moves no keypoint that is used). The file is a
pickle: only arrays and tensors are read from it, anything else is refused.
"""

import collections
import io
import pickle
from pathlib import Path

import cv2
import numpy as np
import torch
from crowdgaussian_shared.camera import Camera
from crowdgaussian_shared.errors import CrowdGaussianError

from .image_files import read_image
from .training_person import BodyInPicture

_PARTS = (("scale", 1), ("transl", 3), ("root", 3), ("body", 63), ("betas", 10), ("left", 45),
          ("right", 45), ("jaw", 3), ("left_eye", 3), ("right_eye", 3), ("expression", 10))
_POSE = ("root", "body", "jaw", "left_eye", "right_eye", "left", "right")  # the order of 55 joints
_NUMBERS = sum(count for _, count in _PARTS)
_PLAIN = 14  # levels that a plain background may differ from its corner
_SILHOUETTE = (0.02, 0.8)  # of the picture


def find_huge100k(folder: Path) -> dict[str, Path]:
    """Parameter files by name; images with the same name in several parts get the part's name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("**/param/*.npy")):
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
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = (np.lib.format.read_array_header_1_0 if version == (1, 0)
                    else np.lib.format.read_array_header_2_0)
            shape, _, dtype = read(stream)
            if shape != () or not dtype.hasobject:
                raise ValueError("it holds no dictionary")
            content = _ArraysOnly(stream).load()
        about = content.item() if isinstance(content, np.ndarray) else content
        values = np.asarray(about["smpl_params"], np.float64).reshape(-1)
        viewmat, intrinsics = (np.asarray(part, np.float64) for part in about["poses"][0][:2])
        if len(values) != _NUMBERS or viewmat.shape != (4, 4) or intrinsics.shape != (4,):
            raise ValueError(f"it needs {_NUMBERS} numbers and a camera")
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, AttributeError,
            RuntimeError, pickle.UnpicklingError) as error:
        raise CrowdGaussianError(f"{path} is not a parameter file of HuGe100K: {error}.") from error
    return values, viewmat, intrinsics


class _ArraysOnly(pickle.Unpickler):
    """A pickle of numpy arrays and torch tensors; nothing else is ever called."""

    _NUMPY = {("_reconstruct", "multiarray"), ("scalar", "multiarray"), ("ndarray", "numpy"),
              ("dtype", "numpy"), ("_frombuffer", "numeric")}

    def find_class(self, module: str, name: str):
        if (name, module.split(".")[-1]) in self._NUMPY and module.split(".")[0] == "numpy":
            return super().find_class(module, name)
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return torch._utils._rebuild_tensor_v2
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return lambda data: torch.load(io.BytesIO(data), weights_only=True)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
