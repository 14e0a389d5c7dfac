# SPDX-License-Identifier: Apache-2.0
"""The seam of the appearance stage: photo_fit and LORM."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class CrowdBuilder(AvatarBuilder, Protocol):
    """An appearance stage that works on several people at once, in a body of its own."""

    @property
    def body_name(self) -> str:
        """The body model whose shape coefficients the avatars carry."""
        ...

    def expect(self, indices: Sequence[int]) -> None:
        """Told once, before the first person: who will be asked for, in order."""
        ...
