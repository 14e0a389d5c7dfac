# SPDX-License-Identifier: Apache-2.0
"""Hide parts of a person as other people would: the simulation of the paper's appendix A.

Three kinds of occluders (CrowdGaussian, equations 7 to 9): ellipses centred on keypoints of the
body, never of the head; thickened quadratic Bezier bands; and, with some probability, a straight
cut that hides one side of a line. Their union is closed and dilated (equation 10, three
iterations of each), and never hides more than 70 % of the person. The sizes and counts are our
choice: the paper names the kinds, the order and the limit.

All lengths are shares of the person's height in the image, so the same settings fit any picture.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from crowdgaussian_shared.errors import InputError, SettingError
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS

from ...core.landmarks import HEAD, NUM_LANDMARKS

LEAST_HEIGHT = 32  # pixels of a person in which parts can be hidden
HEAD_SHARE = 0.2  # of a silhouette's height, from the top: no occluder's centre where joints lack
BODY_KEYPOINTS = tuple(i for i, name in enumerate(BODY_JOINTS) if name not in ("neck", "head"))
BODY_LANDMARKS = np.setdiff1d(np.arange(NUM_LANDMARKS), HEAD)
_REDRAWS = 6  # before the occluder is shrunk to the limit
_CURVE_POINTS = 24


@dataclass(frozen=True)
class OcclusionConfig:
    """How much is drawn. Pairs are the ends of uniform distributions, both included."""

    ellipses: tuple[int, int] = (1, 3)  # how many
    ellipse_radii: tuple[float, float] = (0.05, 0.16)  # half axes
    bands: tuple[int, int] = (0, 2)
    band_widths: tuple[float, float] = (0.04, 0.12)
    cut_probability: float = 0.3
    cut_shares: tuple[float, float] = (0.1, 0.45)  # of the person's pixels beyond the line
    iterations: int = 3  # of the closing and of the dilation
    kernel: float = 0.006  # side of the square kernel; at least 3 pixels
    most_hidden: float = 0.7  # of the person's pixels


DEFAULT = OcclusionConfig()


@dataclass(frozen=True)
class Occluders:
    """What was drawn, in pixels; x counts columns and y rows."""

    centres: np.ndarray  # [E, 2] x, y of ellipses
    radii: np.ndarray  # [E, 2] half axes
    angles: np.ndarray  # [E] degrees
    bands: np.ndarray  # [B, 3, 2] the three control points of each curve
    widths: np.ndarray  # [B]
    cuts: np.ndarray  # [C, 3] a, b, c: hidden where a x + b y > c, (a, b) of length 1


@dataclass(frozen=True)
class OcclusionSteps:
    """Every step from the occluders to what they hide.  # [H, W] bool each"""

    ellipses: np.ndarray
    bands: np.ndarray
    cuts: np.ndarray
    union: np.ndarray
    closed: np.ndarray
    dilated: np.ndarray
    hidden: np.ndarray  # of the person, at most ``most_hidden``


def simulate(
    mask: np.ndarray,
    keypoints: np.ndarray | None,
    rng: np.random.Generator,
    config: OcclusionConfig = DEFAULT,
) -> OcclusionSteps:
    """Draw occluders over one person.

    Args:
        mask: the person.  # [H, W] bool
        keypoints: of the body in the image, x and y in pixels: MediaPipe's landmarks, [33, 2], or
            SMPL-X joints, [55, 2] or the first 22; those of neck and head are not used. None:
            points of the silhouette below its head.
        rng: where chance comes from; the same state gives the same occluders.
        config: counts and sizes.

    Raises:
        CrowdGaussianError: the mask is empty or smaller than 32 pixels, or a keypoint is no
            number.
    """
    height = person_height(mask)
    points = body_points(mask, keypoints)
    for _ in range(_REDRAWS):
        stages = paint(mask, draw(mask, points, rng, config), height, config)
        if stages.hidden.sum() <= config.most_hidden * mask.sum():
            return stages
    return OcclusionSteps(
        **{**vars(stages), "hidden": resize_to(stages.dilated, mask, config.most_hidden)}
    )


def person_height(mask: np.ndarray) -> int:
    """Rows that a person takes.

    Raises:
        InputError: none, or fewer than 32.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        raise InputError(
            "The mask is empty, so there is nobody to hide; mark the person's pixels in it."
        )
    height = int(rows[-1] - rows[0] + 1)
    if height < LEAST_HEIGHT:
        raise InputError(
            f"The person is only {height} pixels tall; use a picture in which "
            f"they have at least {LEAST_HEIGHT}."
        )
    return height


def body_points(mask: np.ndarray, keypoints: np.ndarray | None) -> np.ndarray:
    """Where ellipses may be centred: keypoints of the body inside its box.  # [K, 2] x, y"""
    rows, columns = np.nonzero(mask)
    if keypoints is not None:
        points = np.asarray(keypoints, np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < len(BODY_JOINTS):
            raise InputError(
                f"Keypoints have shape {points.shape}, they must be the x and y of MediaPipe's 33 "
                "landmarks, of the 55 joints of SMPL-X, or of its first 22."
            )
        if not np.isfinite(points).all():
            raise InputError(
                "The pose holds values that are no numbers; estimate it "
                "again or leave the keypoints out."
            )
        points = points[BODY_LANDMARKS if len(points) == NUM_LANDMARKS else list(BODY_KEYPOINTS)]
        low = (columns.min(), rows.min())
        high = (columns.max() + 1, rows.max() + 1)
        points = points[((points >= low) & (points < high)).all(axis=1)]
        if len(points):
            return points
    below = rows >= rows.min() + HEAD_SHARE * (rows.max() + 1 - rows.min())
    return np.stack([columns, rows], -1)[below] + 0.5


def draw(
    mask: np.ndarray,
    points: np.ndarray,
    rng: np.random.Generator,
    config: OcclusionConfig = DEFAULT,
) -> Occluders:
    """Choose occluders at random.

    Args:
        mask: the person.  # [H, W] bool
        points: where ellipses may be centred.  # [K, 2] x, y
        rng: where chance comes from.
        config: counts and sizes.
    """
    rows, columns = np.nonzero(mask)
    low = np.array([columns.min(), rows.min()], np.float64)
    high = np.array([columns.max() + 1, rows.max() + 1], np.float64)
    tall = high[1] - low[1]
    count = min(int(rng.integers(*config.ellipses, endpoint=True)), len(points))
    centres = points[rng.choice(len(points), count, replace=False)]
    bands = rng.integers(*config.bands, endpoint=True)
    curves = rng.uniform(low, high, (bands, 3, 2))
    across = np.arange(2) == rng.integers(0, 2, (bands, 1))  # the axis that the band runs along
    curves[:, 0] = np.where(across, low - 0.1 * tall, curves[:, 0])
    curves[:, 2] = np.where(across, high + 0.1 * tall, curves[:, 2])
    cuts = np.zeros((0, 3))
    if rng.random() < config.cut_probability:
        cuts = _cut(
            columns + 0.5, rows + 0.5, rng.uniform(0, 2 * np.pi), rng.uniform(*config.cut_shares)
        )
    return Occluders(
        centres,
        rng.uniform(*config.ellipse_radii, (count, 2)) * tall,
        rng.uniform(0, 180, count),
        curves,
        rng.uniform(*config.band_widths, bands) * tall,
        cuts,
    )


def _cut(x: np.ndarray, y: np.ndarray, direction: float, share: float) -> np.ndarray:
    """The line with this share of the points beyond it.  # [1, 3]"""
    a, b = np.cos(direction), np.sin(direction)
    return np.array([[a, b, np.quantile(a * x + b * y, 1 - share)]])


def paint(
    mask: np.ndarray, occluders: Occluders, height: int, config: OcclusionConfig = DEFAULT
) -> OcclusionSteps:
    """Occluders -> masks, united, closed and dilated."""
    ellipses = paint_ellipses(mask.shape, occluders)
    bands, cuts = paint_bands(mask.shape, occluders), paint_cuts(mask.shape, occluders)
    union = ellipses | bands | cuts
    side = max(3, 2 * round(config.kernel * height / 2) + 1)
    kernel = np.ones((side, side), np.uint8)
    closed = cv2.morphologyEx(
        union.astype(np.uint8), cv2.MORPH_CLOSE, kernel, iterations=config.iterations
    )
    dilated = cv2.dilate(closed, kernel, iterations=config.iterations).astype(bool)
    return OcclusionSteps(
        ellipses, bands, cuts, union, closed.astype(bool), dilated, dilated & mask
    )


def paint_ellipses(shape: tuple[int, int], occluders: Occluders) -> np.ndarray:
    """Equation 7: points whose distance in the turned, scaled frame is at most 1."""
    canvas = np.zeros(shape, np.uint8)
    for centre, radii, angle in zip(
        occluders.centres, occluders.radii, occluders.angles, strict=True
    ):
        box = (tuple(map(float, centre - 0.5)), tuple(map(float, 2 * radii)), float(angle))
        cv2.ellipse(canvas, box, 1, cv2.FILLED)
    return canvas.astype(bool)


def bezier(control: np.ndarray, count: int = _CURVE_POINTS) -> np.ndarray:
    """Equation 8: points (1-t)^2 P0 + 2 t (1-t) P1 + t^2 P2.  # [B, 3, 2] -> [B, count, 2]"""
    t = np.linspace(0, 1, count)
    weights = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], -1)  # [count, 3]
    return weights @ control


def paint_bands(shape: tuple[int, int], occluders: Occluders) -> np.ndarray:
    """Curves drawn as thick lines."""
    canvas = np.zeros(shape, np.uint8)
    for curve, width in zip(bezier(occluders.bands), occluders.widths, strict=True):
        points = np.round((curve - 0.5) * 16).astype(np.int32)  # sixteenths of a pixel
        cv2.polylines(canvas, [points], False, 1, max(1, round(float(width))), shift=4)
    return canvas.astype(bool)


def paint_cuts(shape: tuple[int, int], occluders: Occluders) -> np.ndarray:
    """Equation 9: one side of a straight line."""
    canvas = np.zeros(shape, bool)
    x, y = np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5
    for a, b, c in occluders.cuts:
        canvas |= (a * x)[None, :] + (b * y)[:, None] > c
    return canvas


def resize_to(occluder: np.ndarray, mask: np.ndarray, ratio: float) -> np.ndarray:
    """Grow or shrink an occluder evenly until it hides a share of the person.

    The outline moves to the distance from it that has the asked share of the person's pixels
    inside; among pixels at that distance the upper ones count first, so that the share is right
    to less than a pixel, and never exceeded.

    Args:
        occluder: what hides; not empty.  # [H, W] bool
        mask: the person.  # [H, W] bool
        ratio: 0..1.

    Returns:
        The hidden pixels of the person.  # [H, W] bool
    """
    outside = cv2.distanceTransform((~occluder).astype(np.uint8), cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(occluder.astype(np.uint8), cv2.DIST_L2, 5)
    pixels = np.flatnonzero(mask)
    nearest = np.argsort((outside - inside).ravel()[pixels], kind="stable")
    hidden = np.zeros(mask.shape, bool)
    hidden.ravel()[pixels[nearest[: int(ratio * len(pixels) + 1e-9)]]] = True
    return hidden


# An image with a part of its person hidden: by chance for training, by a share for evaluation

WHITE = 255


@dataclass(frozen=True)
class Occluded:
    """A person of whom a part cannot be seen."""

    image: np.ndarray  # [H, W, 3] uint8, white where the occluder hides the person
    visible: np.ndarray  # [H, W] bool, the pixels that still show the person
    ratio: float  # hidden share of the person's pixels, 0..1


def occlude(
    image: np.ndarray,
    mask: np.ndarray,
    keypoints: np.ndarray | None = None,
    ratio: float = 0.4,
    seed: int = 0,
) -> Occluded:
    """Hide a share of a person, for evaluation (the paper uses 0.2, 0.4 and 0.6).

    Random occluders as in training are grown or shrunk until they hide the asked share, right to
    less than one pixel of the person.

    Args:
        image: RGB.  # [H, W, 3] uint8
        mask: the person.  # [H, W] bool, or 8-bit with 128 and more inside
        keypoints: as for ``simulate``.
        ratio: share to hide, 0 to 0.7.
        seed: the same seed hides the same pixels.

    Raises:
        CrowdGaussianError: the ratio is out of range, the mask does not fit the image, is empty or
            of a person under 32 pixels, or the keypoints hold values that are no numbers.
    """
    if not 0 <= ratio <= DEFAULT.most_hidden:
        raise SettingError(
            f"An occlusion of {ratio} is not possible; choose 0 to {DEFAULT.most_hidden}."
        )
    mask = person_mask(image, mask)
    stages = simulate(mask, keypoints, np.random.default_rng(seed))
    return hide(image, mask, resize_to(stages.dilated, mask, ratio))


def occlude_randomly(
    image: np.ndarray,
    mask: np.ndarray,
    keypoints: np.ndarray | None,
    rng: np.random.Generator,
    config: OcclusionConfig = DEFAULT,
) -> Occluded:
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
        InputError: it has another size than the image.
    """
    if image.shape[:2] != mask.shape[:2] or mask.ndim != 2:
        sizes = [" x ".join(str(n) for n in array.shape[1::-1]) for array in (mask, image)]
        raise InputError(
            f"The mask has {sizes[0]} pixels and the image {sizes[1]}; they "
            "must be of the same picture and size."
        )
    return mask if mask.dtype == bool else mask >= 128


# The steps of an occlusion side by side, as in the paper's figure 9

STEPS = ("person", "ellipses", "bands", "cuts", "union", "closed", "dilated", "result")
_OUTSIDE, _PERSON, _OCCLUDER, _HIDDEN = (24, 26, 30), (120, 126, 138), (214, 132, 60), (240, 84, 60)


def stage_picture(
    image: np.ndarray,
    mask: np.ndarray,
    keypoints: np.ndarray | None = None,
    seed: int = 0,
    config: OcclusionConfig = DEFAULT,
) -> np.ndarray:
    """One row of panels: the person, each kind of occluder, union, closing, dilation, the result.

    Args:
        image: RGB.  # [H, W, 3] uint8
        mask: the person.  # [H, W] bool or uint8
        keypoints: as for ``occlude``.
        seed: which occluders.
        config: counts and sizes.

    Returns:
        # [H + 24, 8 W, 3] uint8
    """
    mask = person_mask(image, mask)
    stages = simulate(mask, keypoints, np.random.default_rng(seed), config)
    result = hide(image, mask, stages.hidden)
    white = np.full_like(image, 255)
    panels = [np.where(mask[..., None], image, white)]
    panels += [_panel(mask, getattr(stages, name)) for name in STEPS[1:-1]]
    panels.append(np.where(result.visible[..., None], image, white))
    titles = [*STEPS[:-1], f"{result.ratio:.0%} hidden"]
    return np.concatenate([_titled(p, t) for p, t in zip(panels, titles, strict=True)], axis=1)


def _panel(mask: np.ndarray, occluder: np.ndarray) -> np.ndarray:
    colours = np.array([_OUTSIDE, _PERSON, _OCCLUDER, _HIDDEN], np.uint8)
    return colours[mask + 2 * occluder.astype(np.int64)]


def _titled(panel: np.ndarray, title: str) -> np.ndarray:
    bar = np.full((24, panel.shape[1], 3), 255, np.uint8)
    size = min(0.45, panel.shape[1] / 250)
    cv2.putText(bar, title, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, size, (30, 30, 30), 1, cv2.LINE_AA)
    return np.ascontiguousarray(np.concatenate([bar, panel]))
