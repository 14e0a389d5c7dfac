# SPDX-License-Identifier: Apache-2.0
"""Clean Gaussians -> coarse ones, as a single photo leaves them: damage drawn and chained.

What a reconstruction saw it keeps, what it guessed is blurred, thin, misplaced. So each person is
seen from a made-up photo; the side that faces it is harmed little, the rest fully. A scene draws
which kinds of damage happen and in what order, and a person draws how much of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from crowdgaussian_shared.geometry.avatar import BodyParams, Gaussians
from crowdgaussian_shared.geometry.rotations import quat_to_matrix
from crowdgaussian_shared.geometry.sh import SH_C0
from scipy.spatial import cKDTree

from ..body.model import pose_body
from .scenes import PlacedActor

_SEEN = 0.15  # damage of what faces the photo, as a share of that of the rest
_NEARLY_CLEAN, _MILD = 0.15, 0.2  # share of people with little damage, and how little
_LIMB_NOISE = 0.03  # radians, of every joint of a misaligned body
_SHIFT = 0.01  # metres, of the whole misaligned body


@dataclass(frozen=True)
class Patient:
    """One person's Gaussians on their way down."""

    gaussians: Gaussians
    damage: np.ndarray  # [N] 0..1, how much each one may be harmed
    placed: PlacedActor
    strength: float  # 0..1, of this person


Harm = Callable[[Patient, np.random.Generator], Patient]


def draw_chain(rng: np.random.Generator) -> tuple[str, ...]:
    """Which kinds of damage a scene has, in their order: two to five."""
    names = list(HARMS)
    count = int(rng.integers(2, len(names)))
    return tuple(names[k] for k in rng.permutation(len(names))[:count])


def degrade(
    clean: list[Gaussians],
    placed: tuple[PlacedActor, ...],
    chain: tuple[str, ...],
    rng: np.random.Generator,
) -> list[Gaussians]:
    """Every person through the chain.

    Args:
        clean: each person's Gaussians, in the scene.
        placed: who they are.
        chain: names of HARMS.
        rng: decides how much.
    """
    photo = rng.uniform(-np.pi, np.pi)
    towards = np.array([np.sin(photo), 0.15, np.cos(photo)])
    result = []
    for gaussians, person in zip(clean, placed, strict=True):
        mild = rng.random() < _NEARLY_CLEAN
        patient = Patient(
            gaussians,
            unseen(gaussians, towards),
            person,
            _MILD if mild else float(rng.uniform(0.6, 1.0)),
        )
        for name in chain:
            patient = HARMS[name](patient, rng)
        result.append(patient.gaussians)
    return result


def unseen(gaussians: Gaussians, towards: np.ndarray) -> np.ndarray:
    """How much is guessed of each flat Gaussian, seen from one side.  # [N] _SEEN..1"""
    normals = quat_to_matrix(gaussians.quats.astype(np.float64))[:, :, 2]
    facing = (normals @ (towards / np.linalg.norm(towards)) + 0.2) / 0.6
    return 1 - (1 - _SEEN) * facing.clip(0, 1)


def thin(patient: Patient, rng: np.random.Generator) -> Patient:
    """Keeps 20 to 60 % of the points where nothing is known, and swells what is left."""
    share = rng.uniform(0.2, 0.6)
    keep = 1 - (1 - share) * patient.damage * patient.strength
    kept = rng.random(len(keep)) < keep
    swell = (keep[kept] ** -0.5 * (1 + rng.uniform(0, 0.4) * patient.damage[kept]))[:, None]
    g = patient.gaussians
    fewer = Gaussians(
        g.means[kept],
        g.quats[kept],
        (g.scales[kept] * swell).astype(np.float32),
        g.opacities[kept],
        g.sh[kept],
    )
    return replace(patient, gaussians=fewer, damage=patient.damage[kept])


def blur_colours(patient: Patient, rng: np.random.Generator) -> Patient:
    """Under-fitted: colours are averages over 2 to 8 cm."""
    reach = rng.uniform(0.02, 0.08)
    means = patient.gaussians.means.astype(np.float64)
    cells, members = np.unique(np.floor(means / reach).astype(int), axis=0, return_inverse=True)
    members = members.reshape(-1)
    counts = np.bincount(members)[:, None]
    colours = patient.gaussians.sh[:, 0].astype(np.float64)
    average = _sums(colours, members, len(cells)) / counts
    centre = _sums(means, members, len(cells)) / counts
    far, near = cKDTree(centre).query(means, k=min(6, len(cells)))
    far, near = far.reshape(len(means), -1), near.reshape(len(means), -1)
    weights = np.exp(-0.5 * (far / (0.7 * reach)) ** 2) + 1e-9
    smooth = np.einsum("nk,nkc->nc", weights / weights.sum(1, keepdims=True), average[near])
    return _coloured(patient, smooth)


def quantise_colours(patient: Patient, rng: np.random.Generator) -> Patient:
    """Few levels of every colour, and a tint."""
    levels, tint = rng.integers(4, 12), rng.normal(0, 0.03, 3)
    colours = 0.5 + SH_C0 * patient.gaussians.sh[:, 0].astype(np.float64)
    coarse = (np.round(colours * levels) / levels + tint - 0.5) / SH_C0
    return _coloured(patient, coarse)


def fade(patient: Patient, rng: np.random.Generator) -> Patient:
    """Some opacities fall."""
    least = rng.uniform(0.2, 0.7)
    loss = (1 - least) * rng.random(len(patient.damage)) * patient.damage * patient.strength
    faded = (patient.gaussians.opacities * (1 - loss)).astype(np.float32)
    return replace(patient, gaussians=replace(patient.gaussians, opacities=faded))


def jitter(patient: Patient, rng: np.random.Generator) -> Patient:
    """Points leave the surface by 2 to 15 mm, neighbours together, and turn."""
    size = rng.uniform(0.002, 0.015)
    means = patient.gaussians.means.astype(np.float64)
    waves = rng.normal(0, 2 * np.pi / 0.15, (6, 3))  # bumps of about 15 cm
    phases, axes = rng.uniform(0, 2 * np.pi, 6), rng.normal(0, 0.5, (6, 3))
    bumps = np.sin(means @ waves.T + phases) @ axes
    move = size * (bumps + 0.6 * rng.standard_normal(means.shape))
    return _moved(patient, move * patient.damage[:, None] * patient.strength)


def misalign(patient: Patient, rng: np.random.Generator) -> Patient:
    """The reconstruction stands a little otherwise than the body that is known."""
    placed, actor = patient.placed, patient.placed.actor
    given = actor.params
    limbs = rng.normal(0, _LIMB_NOISE * patient.strength, (22, 3))
    pose = given.pose.astype(np.float64).copy()
    pose[1:22] += limbs[1:]
    other = pose_body(actor.body, BodyParams(given.betas, pose, given.transl, given.scale))
    shift = rng.normal(0, _SHIFT * patient.strength, 3) * (1, 0.3, 1)
    drift = (other.pose_points(other.rest) - actor.body_vertices) @ placed.rotation.T + shift
    body = cKDTree(placed.points(actor.body_vertices))
    far, near = body.query(patient.gaussians.means, k=3)
    weights = 1 / (far + 0.005)
    move = np.einsum("nk,nkc->nc", weights / weights.sum(1, keepdims=True), drift[near])
    return _moved(patient, move)


def _moved(patient: Patient, move: np.ndarray) -> Patient:
    means = (patient.gaussians.means + move).astype(np.float32)
    return replace(patient, gaussians=replace(patient.gaussians, means=means))


def _coloured(patient: Patient, wanted: np.ndarray) -> Patient:
    """Towards other colours, as far as the damage goes.  # [N, 3] of sh[:, 0]"""
    sh = patient.gaussians.sh.astype(np.float64)
    part = (patient.damage * patient.strength)[:, None]
    sh[:, 0] += part * (wanted - sh[:, 0])
    return replace(patient, gaussians=replace(patient.gaussians, sh=sh.astype(np.float32)))


def _sums(values: np.ndarray, members: np.ndarray, count: int) -> np.ndarray:
    return np.stack([np.bincount(members, column, count) for column in values.T], 1)


HARMS: dict[str, Harm] = {
    "thin": thin,
    "blur": blur_colours,
    "quantise": quantise_colours,
    "fade": fade,
    "jitter": jitter,
    "misalign": misalign,
}
