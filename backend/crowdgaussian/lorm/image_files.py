# SPDX-License-Identifier: Apache-2.0
"""Image files of a training set as numbers."""

from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError
from PIL import Image, UnidentifiedImageError


def read_image(path: Path, mode: str = "RGB") -> np.ndarray:
    """An image file as 8-bit numbers.

    Raises:
        CrowdGaussianError: it is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert(mode))
    except (OSError, UnidentifiedImageError) as error:
        raise CrowdGaussianError(f"the image {path} is missing or damaged.") from error
