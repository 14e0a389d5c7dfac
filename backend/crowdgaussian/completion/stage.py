# SPDX-License-Identifier: Apache-2.0
"""The completion stage "open": the network beside the rules, each where it knows more.

The rules of avatar/color_completion.py keep head and hands: they know hair from forehead, and skin
that is nowhere seen. Elsewhere both are mixed, by how hard the network thinks a place is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from crowdgaussian_shared.geometry.avatar import MATERIALS
from scipy.spatial import cKDTree

from ..avatar.color_completion import FULLY_SEEN, ObservedColors
from ..avatar.gaussians import SurfaceGaussians
from ..body.model import BodyModel
from ..body.parts import HAND, HEAD
from ..core.device import load_network, save_network
from .config import KIND, CompleteConfig, read_facts, weights_path
from .layout import (
    Coordinates,
    Sheet,
    nearest_points,
    open_sheet,
    points_on,
    vertex_coordinates,
)
from .model import Completed, CompletionConfig, CompletionNet, Observed

_NEIGHBOURS = 4  # Gaussians that a texel is read from
_NEAR, _REACH = 0.7, 3.0  # texels: by which a Gaussian counts less, and beyond which none is seen
# Expected absolute error of sRGB up to which the network has the share that the settings give it,
# and from which it has all. What is hard for the network is harder for the rules: of ten people,
# the best share was 0.6 to 0.8 below 0.1 and over 1 above. Gain over the rules on their unseen
# surface: 1.04 dB; with a share of 0.75 everywhere 0.94, with 0.09 and 0.15 here 0.99.
_EASY, _HARD = 0.05, 0.13
# Stripes and folds stay the rules': the network blurs what it is not sure of, so it moves a colour
# by the mean of what it would around it. Sources among all Gaussians, and how many of them make a
# mean; with these, about a hand's breadth. Of the gain on 12 held-out people it costs 0.21 dB on
# the unseen surface and 0.06 dB in views (8000: 0.10 and 0.01, but the sample's stripes fade).
_SOURCES, _AROUND = 4000, 32
# Share of a part of the body, and of a material, that the photo must show for the network to have
# its whole say about the rest; with nothing shown it has none. It answers with the mean of all it
# has learnt there, and legs and shoes below the photo's border came out brown.
_FAMILIAR = 0.1


# A person's Gaussians on the sheet


@dataclass(frozen=True)
class Known:
    """What is known of N Gaussians."""

    places: Coordinates  # on the sheet
    observed: ObservedColors  # what the photo shows, without what is misplaced
    material: np.ndarray  # [N] as avatar/materials.py labels them
    offset: np.ndarray  # [N] metres from the body along its normal


def observe(known: Known, sheet: Sheet) -> Observed:
    """The Gaussians' colours, materials and offsets at the texels; a batch of one."""
    distance, index = nearest_points(known.places, sheet, _NEIGHBOURS)
    weight = np.exp(-((distance / _NEAR) ** 2)) + 1e-9  # [V, 4]
    weight /= weight.sum(1, keepdims=True)
    seen = weight * known.observed.seen[index]
    total = seen.sum(1)
    colours = np.einsum("vk,vkc->vc", seen, known.observed.colours[index])
    colours /= np.maximum(total, 1e-9)[:, None]
    total = np.where(distance[:, 0] < _REACH, total, 0.0)
    votes = np.einsum("vk,vkm->vm", weight, np.eye(len(MATERIALS))[known.material[index]])
    offset = (weight * known.offset[index]).sum(1)
    values = (np.where(total[:, None] > 0, colours, 0).clip(0, 1), total, votes.argmax(1), offset)
    colour, shown, material, away = (torch.from_numpy(value)[None] for value in values)
    return Observed(colour.float(), shown.float(), material, away.float())


def answers(done: Completed, places: Coordinates, sheet: Sheet) -> tuple[np.ndarray, np.ndarray]:
    """Colours of the Gaussians [N, 3] sRGB, and the expected absolute error of each [N]."""
    values = torch.cat([done.colours[0].clamp(0, 1), done.log_error[0, :, None].exp()], 1)
    read = sheet.read(values.double().cpu().numpy(), places)
    return read[:, :3], read[:, 3]


def broad_part(
    change: np.ndarray, means: np.ndarray, material: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """The mean of a change of colour around each Gaussian, over those of its material.

    Args:
        change: [N, 3] sRGB.
        means: [N, 3] metres, in the T-pose.
        material: [N] labels.
        counts: [N] bool, whose changes are taken.

    Returns:
        # [N, 3]
    """
    sources = np.flatnonzero(counts)[:: max(1, len(means) // _SOURCES)]
    if len(sources) < _AROUND:
        return change
    _, near = cKDTree(means[sources]).query(means, k=_AROUND)
    near = sources[near]
    weight = (material[near] == material[:, None]) + 1e-6
    return np.einsum("nk,nkc->nc", weight / weight.sum(1, keepdims=True), change[near])


def familiar(seen: np.ndarray, *labels: np.ndarray) -> np.ndarray:
    """How much the photo says about what has the same labels, 0..1, by the least of them.

    Args:
        seen: [N] 0..1, how well the photo shows each Gaussian.
        labels: [N] integers each: part of the body, material.

    Returns:
        # [N]
    """
    whole = (seen >= FULLY_SEEN).astype(float)
    shown = [(np.bincount(each, whole) / np.maximum(np.bincount(each), 1))[each] for each in labels]
    return np.clip(np.min(shown, axis=0) / _FAMILIAR, 0, 1)


# The stage


class OpenCompletion:
    """See avatar.color_completion.Completion."""

    def __init__(self, network: CompletionNet, sheet: Sheet, body: BodyModel, share: float) -> None:
        self.network, self.sheet, self.share = network, sheet, share
        self.vertices, self.faces = vertex_coordinates(body), body.faces.cpu().numpy()

    @torch.no_grad()
    def complete(
        self,
        cloud: SurfaceGaussians,
        observed: ObservedColors,
        material: np.ndarray,
        offset: np.ndarray,
        filled: np.ndarray,
    ) -> np.ndarray:
        """As Completion.complete."""
        if not (observed.seen >= FULLY_SEEN).any():
            return filled
        corners = self.faces[cloud.points.face]
        places = points_on(self.vertices, corners, cloud.points.barycentric)
        known = Known(places, observed, material.astype(np.int64), offset)
        done = self.network(observe(known, self.sheet))
        colours, error = answers(done, places, self.sheet)
        hard = np.clip((error - _EASY) / (_HARD - _EASY), 0, 1)
        share = self.share + (1 - self.share) * hard
        share[np.isin(cloud.group, (HEAD, HAND))] = 0
        share *= 1 - np.clip(observed.seen / FULLY_SEEN, 0, 1)
        share *= familiar(observed.seen, cloud.group, known.material)
        change = broad_part(colours - filled, cloud.means, material, share > 0)
        return filled + share[:, None] * change


def open_completion(config: CompleteConfig, body: BodyModel) -> OpenCompletion:
    """The stage with its weights.

    Raises:
        CrowdGaussianError: they are missing or damaged.
    """
    sheet = open_sheet()
    return OpenCompletion(load_completion(weights_path(config), sheet), sheet, body, config.share)


# The file


def save_completion(network: CompletionNet, path: Path, about: dict[str, str]) -> None:
    """Writes weights in half precision, and facts; an older file stays until this one is whole."""
    save_network(network, path, {**about, "kind": KIND}, torch.half)


def load_completion(path: Path, sheet: Sheet) -> CompletionNet:
    """A network that save_completion wrote, in evaluation mode.

    Raises:
        DamagedFileError: the file is damaged or of another architecture.
    """

    def build(**settings: Any) -> CompletionNet:
        return CompletionNet(sheet, CompletionConfig(**settings))

    return load_network(path, read_facts(path), build)
