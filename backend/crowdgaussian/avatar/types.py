# SPDX-License-Identifier: Apache-2.0
"""The seam of the appearance stage: photo_fit and LORM."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from crowdgaussian_shared.errors import Cancelled
from crowdgaussian_shared.geometry.avatar import Avatar

from ..core.progress import Report
from ..segment.types import CrowdView


@dataclass(frozen=True)
class Outcome:
    """What became of one person: an avatar, or the error that is this person's alone."""

    index: int  # in the crowd
    avatar: Avatar | None = None
    error: Exception | None = None

    @classmethod
    def of(cls, index: int, build: Callable[[], Avatar]) -> "Outcome":
        """Call `build` and keep what it returns or raises; only Cancelled passes through."""
        try:
            return cls(index, build())
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001  result() raises it again
            return cls(index, error=error)

    def result(self) -> Avatar:
        """The avatar.

        Raises:
            Exception: the error that ended this person's reconstruction.
        """
        if self.avatar is None:
            raise self.error or ValueError("an outcome needs an avatar or an error")
        return self.avatar


class AvatarBuilder(Protocol):
    """Photo, people and masks -> avatars."""

    @property
    def body_name(self) -> str:
        """The body model whose shape coefficients the avatars carry."""
        ...

    def reconstruct(
        self, view: CrowdView, indices: Sequence[int], report: Report
    ) -> Iterator[Outcome]:
        """Yield one outcome for each index, in this order, as they finish.

        Args:
            view: the photo, everybody in it, and their masks.
            indices: who is wanted; several may be worked on at once.
            report: called between steps with the fraction done of the person whom the step names,
                who is the next to come out; raises to stop.

        Raises:
            Cancelled: by the report.
        """
        ...


@dataclass(frozen=True)
class OffsetLimits:
    """How far the clothed surface may leave the body, metres.

    More room follows skirts, hair and bags, and tears worse when they animate. Hand-tuned.
    """

    clothes: float = 0.07
    skirt: float = 0.14
    hair: float = 0.18
    neck: float = 0.035
    feet: float = 0.025
    hands: float = 0.008
    face: float = 0.012
    inwards: float = 0.03


@dataclass(frozen=True)
class PhotoFitConfig:
    """How a person's Gaussians are made and fitted to the photo.

    Lengths are metres unless a name says pixels. Hand-tuned; not measured one by one.
    """

    gaussians: int = 40_000  # more is sharper, slower and larger on disk
    max_crop_px: int = 800  # longest side of the crop that is fitted; more is sharper and slower
    crop_margin: float = 0.08  # of the person's height in the photo
    pose_steps: int = 6  # contour steps that move limbs and shape; 0 keeps the pose as it was found
    contour_steps: int = 5  # contour steps that move the surface; fewer leave clothes out
    smooth_length: float = 0.2  # over which an offset spreads on the surface; less follows folds
    limits: OffsetLimits = OffsetLimits()
    colour_steps: int = 70  # of the fit to the photo; time grows with them
    colour_rate: float = 0.02
    move_rate: float = 0.03  # of the largest move
    shape_rate: float = 0.04  # of the logarithm of size and of opacity's logit
    loose: bool = True  # skirts and long hair leave the body; False: clothes stay close to it
    tidy_loss: float = 0.3  # decibels of a person's own fit that a step of tidying may cost
    max_move: float = 0.012  # of a Gaussian from its place on the surface; more: gaps when posed
    face_density: float = 9.0  # Gaussians per area, against the unseen body; the total stays
    hand_density: float = 3.0
    seen_density: float = 2.2
    seed: int = 1  # of the places on the surface and of the sources of unseen colours
