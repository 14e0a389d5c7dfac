# SPDX-License-Identifier: Apache-2.0
"""Grow hair: strands rooted on the scalp, combed, pulled down by gravity, kept out of the body."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian.core.mesh import vertex_normals
from scipy.spatial import cKDTree

from .tailor import PosedBody

# Hairline: azimuth about the head's axis (0 in front, 180 behind) -> height above the eyes, as a
# share of the height from the eyes to the crown. The dip at 75 degrees is the sideburn.
HAIRLINE = (
    (0, 30, 52, 66, 78, 90, 112, 130, 160, 180),
    (0.58, 0.57, 0.42, 0.05, -0.10, 0.22, 0.18, -0.35, -0.62, -0.66),
)


@dataclass(frozen=True)
class Style:
    """A haircut."""

    colour: tuple[float, float, float]  # sRGB 0..1
    count: int = 14000
    length: float = 0.05  # metres
    variation: float = 0.3  # share by which lengths differ
    lift: float = 0.35  # how far roots stand off the scalp, 0..1
    comb: tuple[float, float, float] = (0.0, -0.3, -0.6)  # in the head's frame
    part: float = 0.0  # how strongly hair leaves the parting line, sideways
    gravity: float = 0.3
    curl: float = 0.0  # metres, amplitude of curls
    frizz: float = 0.004  # metres of random wander per step
    bun: float = 0.0  # radius in metres; gathers all hair behind the crown
    recede: float = 0.0  # raises the hairline in front
    bald: float = 0.0  # 0..1: leaves only a ring of hair
    radius: float = 0.00045  # metres


@dataclass(frozen=True)
class HeadFrame:
    """Where a head is: rest measures, and the rotation and origin that pose it."""

    eyes: float  # rest height of the eyes
    crown: float  # rest height of the top
    axis: np.ndarray  # [3] rest point on the vertical axis
    rotation: np.ndarray  # [3, 3] rest -> scene

    @classmethod
    def of(cls, body: PosedBody) -> "HeadFrame":
        """Measure the head of a body."""
        eye = (body.marks["left_eye_smplhf"] + body.marks["right_eye_smplhf"]) / 2
        head = body.rest[(body.rest[:, 1] > eye[1] - 0.02) & (np.abs(body.rest[:, 0]) < 0.15)]
        middle = (head[:, 2].max() + head[:, 2].min()) / 2
        turn = body.transforms[15, :3, :3]
        return cls(eye[1], head[:, 1].max(), np.array([0.0, eye[1], middle - 0.01]), turn)

    def line(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Azimuth in degrees (0 front, 180 back) and height (0 eyes, 1 crown) of rest points."""
        offset = points - self.axis
        azimuth = np.degrees(np.arctan2(np.abs(offset[:, 0]), offset[:, 2]))
        return azimuth, offset[:, 1] / (self.crown - self.eyes)


def scalp_field(points: np.ndarray, head: HeadFrame, style: Style) -> np.ndarray:
    """Positive where hair grows.  # [N, 3] rest -> [N]"""
    azimuth, height = head.line(points)
    line = np.interp(azimuth, *HAIRLINE)
    line = line + style.recede * np.clip(1 - np.abs(azimuth - 35) / 50, 0, 1)
    field = height - line
    if style.bald:
        ring = style.bald * np.clip((azimuth - 40) / 40, 0, 1) - height + 0.15
        field = np.minimum(field, ring)
    return np.where(height > -1.2, field, -1.0)


def _roots(body: PosedBody, head: HeadFrame, style: Style, rng: np.random.Generator):
    """Random points on the scalp: posed, unposed, and posed normals.  # [n, 3] each"""
    skull = np.where(body.weights[:, 15] > 0.5, scalp_field(body.rest, head, style), -1.0)
    centre = body.rest[body.faces].mean(axis=1)
    ear = (np.abs(centre[:, 0]) > 0.066) & (np.abs(head.line(centre)[0] - 95) < 22)
    faces = body.faces[(skull[body.faces].min(axis=1) > 0) & ~(ear & (head.line(centre)[1] < 0.1))]
    a, b, c = (body.posed[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    pick = rng.choice(len(faces), style.count, p=area / area.sum())
    share = rng.dirichlet((1, 1, 1), style.count)[:, :, None]
    normals = vertex_normals(body.posed, body.faces)
    return tuple(
        (values[faces[pick]] * share).sum(axis=1) for values in (body.posed, body.rest, normals)
    )


def grow(body: PosedBody, style: Style, seed: int, steps: int = 10) -> np.ndarray:
    """Strands of a haircut in the scene frame.  # [count, steps + 1, 3]"""
    rng = np.random.default_rng(seed)
    head = HeadFrame.of(body)
    points, rest, normals = _roots(body, head, style, rng)
    length = style.length * (1 - style.variation * rng.random(len(points)))
    _, height = head.line(rest)
    comb = np.tile(np.array(style.comb, dtype=float), (len(points), 1))
    comb[:, 0] += style.part * np.sign(rest[:, 0] - 0.02) * np.clip(height, 0.2, 1)
    comb = comb @ head.rotation.T
    tree, shell = _shell(body)
    strands, direction = [points], normals * style.lift + comb
    phase = rng.random(len(points)) * 6.28
    step = length / steps
    for k in range(steps):
        pull = np.array([0.0, -style.gravity, 0.0])
        direction = direction * 0.7 + (comb * 0.6 + pull) * min(1.0, (k + 1) / 3)
        direction += rng.normal(size=direction.shape) * style.frizz * 20
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-6)
        points = points + direction * step[:, None]
        if style.curl:
            angle = phase + k * 1.9
            points = points + style.curl * (
                np.cos(angle)[:, None] * normals + np.sin(angle)[:, None] * np.roll(normals, 1, 1)
            )
        points = _keep_out(points, tree, shell, 0.003 + 0.012 * style.lift * min(k, 3) / 3)
        strands.append(points)
    hair = np.stack(strands, axis=1)
    return gather(hair, head, body, style, rng) if style.bun else hair


def _shell(body: PosedBody):
    keep = body.posed[:, 1] > body.posed[:, 1].max() - 0.75
    return (cKDTree(body.posed[keep]), vertex_normals(body.posed, body.faces)[keep])


def _keep_out(points, tree, normals, gap):
    distance, nearest = tree.query(points)
    height = np.einsum("nc,nc->n", points - tree.data[nearest], normals[nearest])
    push = np.where((height < gap) & (distance < 0.06), gap - height, 0.0)
    return points + push[:, None] * normals[nearest]


def gather(strands, head: HeadFrame, body: PosedBody, style: Style, rng) -> np.ndarray:
    """Comb all strands over the skull to a knot behind the crown, and wind the knot."""
    knot_rest = head.axis + np.array([0.0, 0.55 * (head.crown - head.eyes), -0.125])
    pose = body.transforms[15]
    knot = pose[:3, :3] @ knot_rest + pose[:3, 3]
    tree, normals = _shell(body)
    roots, steps = strands[:, 0], strands.shape[1]
    path = []
    for k in range(steps):
        share = k / (steps - 1)
        points = roots + (knot - roots) * share
        path.append(_keep_out(points, tree, normals, 0.004 + 0.006 * np.sin(share * np.pi)))
    over = np.stack(path, axis=1)
    turns = np.linspace(0, 2.2 * np.pi, steps)
    tilt = rng.normal(size=(len(roots) // 2, 2, 3))
    first = tilt[:, 0] / np.linalg.norm(tilt[:, 0], axis=1, keepdims=True)
    second = np.cross(first, tilt[:, 1])
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    size = style.bun * (0.75 + 0.3 * rng.random(len(first)))[:, None, None]
    ring = (
        np.cos(turns)[None, :, None] * first[:, None]
        + np.sin(turns)[None, :, None] * second[:, None]
    )
    return np.concatenate([over, knot + size * ring])
