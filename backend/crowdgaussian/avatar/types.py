# SPDX-License-Identifier: Apache-2.0
"""The seam of the appearance stage: photo_fit today, LORM tomorrow."""

from typing import Protocol

import numpy as np
from crowdgaussian_shared.avatar import Avatar

from ..people.types import Crowd
from ..progress import Report
from ..segment.types import PersonMask


class AvatarBuilder(Protocol):
    """Photo, people and masks -> the avatar of one person."""

    def reconstruct(
        self, photo: np.ndarray, crowd: Crowd, masks: list[PersonMask], index: int, report: Report
    ) -> Avatar: ...
