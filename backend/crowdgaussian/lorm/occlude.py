# SPDX-License-Identifier: Apache-2.0
"""An image with a part of its person hidden: by chance for training, by a share for evaluation."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError

from .occlusion import DEFAULT, OcclusionConfig, resize_to, simulate

WHITE = 255


@dataclass(frozen=True)
class Occluded:
    """A person of whom a part cannot be seen."""

    image: np.ndarray  # [H, W, 3] uint8, white where the occluder hides the person
    visible: np.ndarray  # [H, W] bool, the pixels that still show the person
    ratio: float  # hidden share of the person's pixels, 0..1


def occlude(image: np.ndarray, mask: np.ndarray, keypoints: np.ndarray | None = None,
            ratio: float = 0.4, seed: int = 0) -> Occluded:
    """Hide a share of a person, for evaluation (the paper uses 0.2, 0.4 and 0.6).

    Random occluders as in training are grown or shrunk until they hide the asked share, right to
    less than one pixel of the person.

    Args:
        image: RGB.  # [H, W, 3] uint8
        mask: the person.  # [H, W] bool, or 8-bit with 128 and more inside
        keypoints: SMPL-X joints in the image, pixels, [55, 2] or [22, 2]; None: chosen from the
            silhouette.
        ratio: share to hide, 0 to 0.7.
        seed: the same seed hides the same pixels.

    Raises:
        CrowdGaussianError: the ratio is out of range, the mask does not fit the image, is empty or
            of a person under 32 pixels, or the keypoints hold values that are no numbers.
    """
    if not 0 <= ratio <= DEFAULT.most_hidden:
        raise CrowdGaussianError(
            f"An occlusion of {ratio} is not possible; choose 0 to {DEFAULT.most_hidden}.")
    mask = person_mask(image, mask)
    stages = simulate(mask, keypoints, np.random.default_rng(seed))
    return hide(image, mask, resize_to(stages.dilated, mask, ratio))


def occlude_randomly(image: np.ndarray, mask: np.ndarray, keypoints: np.ndarray | None,
                     rng: np.random.Generator, config: OcclusionConfig = DEFAULT) -> Occluded:
    """Hide a random part of a person, at most 70 %, for training; arguments as ``occlude``."""
    mask = person_mask(image, mask)
    return hide(image, mask, simulate(mask, keypoints, rng, config).hidden)


def hide(image: np.ndarray, mask: np.ndarray, hidden: np.ndarray) -> Occluded:
    """The image without the hidden pixels [H, W] of the person."""
    painted = np.where(hidden[..., None], np.uint8(WHITE), image)
    return Occluded(painted, mask & ~hidden, float((mask & hidden).sum() / mask.sum()))


def person_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask as truth values.  # [H, W] bool

    Raises:
        CrowdGaussianError: it has another size than the image.
    """
    if image.shape[:2] != mask.shape[:2] or mask.ndim != 2:
        sizes = [" x ".join(str(n) for n in array.shape[1::-1]) for array in (mask, image)]
        raise CrowdGaussianError(f"The mask has {sizes[0]} pixels and the image {sizes[1]}; they "
                                 "must be of the same picture and size.")
    return mask if mask.dtype == bool else mask >= 128
