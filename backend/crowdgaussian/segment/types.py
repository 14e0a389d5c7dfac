# SPDX-License-Identifier: Apache-2.0
"""What the masks stage hands on."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..people.types import Crowd
from ..progress import Report


@dataclass(frozen=True)
class PersonMask:
    """What is seen of one person, and what would be seen with nobody in front."""

    visible: np.ndarray  # [H, W] bool: pixels that show this person; masks never overlap
    amodal: np.ndarray  # [H, W] bool: silhouette as if nothing hid the person (visible included)
    occlusion: float  # 1 - area(visible) / area(amodal), 0..1


class Segmenter(Protocol):
    """Photo and people -> one mask each, in the order of crowd.people."""

    def segment(self, photo: np.ndarray, crowd: Crowd, report: Report) -> list[PersonMask]: ...
