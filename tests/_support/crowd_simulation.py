# SPDX-License-Identifier: Apache-2.0
"""Crowds in front of a pinhole camera of 60 degrees, and what a fit of each person alone tells."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian.people.ground.plane import SupportEvidence
from crowdgaussian_shared.geometry.axes import scene_viewmat

WIDTH, HEIGHT = 1920, 1280
FOCAL = WIDTH / 2 / np.tan(np.radians(30))
CENTRE = np.array([WIDTH / 2, HEIGHT / 2])
ADULT = 1.70  # metres: what everybody is taken for when fitted alone


@dataclass(frozen=True)
class Kind:
    """Who is in the crowd; jumpers, children and people on steps come first, in this order."""

    people: int
    jumpers: int = 0
    children: int = 0
    on_steps: int = 0
    hidden_feet: float = 0.0  # share of people
    focal_error: float = 0.0  # relative
    noise: float = 3.0  # pixels at feet and crowns


@dataclass(frozen=True)
class Simulated:
    """The truth, and the evidence."""

    depth: np.ndarray  # [P] metres
    stature: np.ndarray  # [P] metres
    lift: np.ndarray  # [P] metres of the feet above the floor
    pitch: float  # radians
    alone: np.ndarray  # [P] metres, depth of everybody as an adult of 1.70 m
    evidence: SupportEvidence
    K: np.ndarray  # [3, 3] as believed

    def relative_error(self, found: np.ndarray) -> float:
        """Median error of depths relative to the crowd's own scale."""
        ratio = found / self.depth
        return float(np.median(np.abs(ratio / np.median(ratio) - 1)))

    def order_accuracy(self, found: np.ndarray) -> float:
        """Share of pairs, more than 0.3 m apart, in the right order."""
        a, b = np.triu_indices(len(self.depth), 1)
        far = np.abs(self.depth[a] - self.depth[b]) > 0.3
        right = np.sign(found[a] - found[b]) == np.sign(self.depth[a] - self.depth[b])
        return float(right[far].mean()) if far.any() else 1.0


def simulate(generator: np.random.Generator, kind: Kind, pitch: float | None = None) -> Simulated:
    """One crowd whose people are all inside the picture."""
    while True:
        tilt = np.radians(generator.uniform(-2, 18)) if pitch is None else pitch
        viewmat = scene_viewmat(
            generator.uniform(1.2, 2.6), tilt, generator.normal(0, np.radians(1.5))
        )
        rows = [
            row for row in (_person(generator, kind, k, viewmat) for k in range(kind.people)) if row
        ]
        if len(rows) == kind.people:
            return _evidence(generator, kind, rows, tilt)


def _person(generator, kind, index, viewmat):
    """Depth, foot and head pixels, stature, lift; None when no place was found for them."""
    jumper = index < kind.jumpers
    child = not jumper and index < kind.jumpers + kind.children
    step = not jumper and not child and index < kind.jumpers + kind.children + kind.on_steps
    for _ in range(300):
        depth = generator.uniform(3.5, 14)
        lift = generator.uniform(0.3, 0.8) if jumper or step else 0.0
        foot = np.array([generator.uniform(-0.5, 0.5) * depth, lift, -depth])
        stature = (
            generator.uniform(1.0, 1.3)
            if child
            else np.clip(generator.normal(ADULT, 0.09), 1.45, 1.98)
        )
        seen = np.stack([foot, foot + [0.0, stature, 0.0]]) @ viewmat[:3, :3].T + viewmat[:3, 3]
        if seen[:, 2].min() < 1:
            continue
        pixels = seen[:, :2] / seen[:, 2:] * FOCAL + CENTRE
        if (pixels > 0).all() and (pixels < [WIDTH, HEIGHT]).all():
            return seen[0, 2], *pixels, stature, lift
    return None


def _evidence(generator, kind, rows, pitch):
    depth, foot, head, stature, lift = (np.array(part) for part in zip(*rows))
    foot, head = (p + generator.normal(0, kind.noise, p.shape) for p in (foot, head))
    hidden = generator.random(kind.people) < kind.hidden_feet
    guess = generator.normal(0, 0.04, kind.people) * np.linalg.norm(foot - head, axis=1)
    foot[:, 1] += np.where(hidden, guess, 0.0)
    focal = FOCAL * (1 + kind.focal_error)
    alone = focal * ADULT / np.linalg.norm(foot - head, axis=1)
    soles, crowns = (
        np.column_stack([(p - CENTRE) / focal, np.ones(kind.people)]) * alone[:, None] * [1, -1, -1]
        for p in (foot, head)
    )
    axis = (crowns - soles) / np.linalg.norm(crowns - soles, axis=1, keepdims=True)
    dangling = np.arange(kind.people) < kind.jumpers  # toes tell most jumpers
    dangling &= generator.random(kind.people) < 0.5
    evidence = SupportEvidence(
        soles[:, None],
        np.full(kind.people, ADULT),
        ~hidden,
        np.ones(kind.people, bool),
        dangling,
        axis,
    )
    K = np.array([[focal, 0, CENTRE[0]], [0, focal, CENTRE[1]], [0, 0, 1.0]])
    return Simulated(depth, stature, lift, pitch, alone, evidence, K)
