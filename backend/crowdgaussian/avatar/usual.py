# SPDX-License-Identifier: Apache-2.0
"""The usual colour of clothes and skin along each limb, deaf to prints of what crosses them.

A hand in front of a shirt, its shadow, or a neighbour's arm cover a smaller part of a garment than
the garment itself. The median over a wide neighbourhood that reaches far around a limb and less far
along it does not see them, but keeps the hem where it is.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .cloud import Cloud
from .regions import ARM, LEG, TORSO
from .wrap import LimbPlaces

_AROUND = 0.3  # how much a distance around a limb counts against one along it
_OTHER_PART = 0.5  # metres between the places of trunk, arms, forearms and legs
_LENDERS = 2400  # of each part, as many as are asked at most
_SHARE = 0.12  # of them that make one median
_LEAST = 40  # seen Gaussians that a part needs for a usual colour
_STEP = 6  # Gaussians between two medians
_LEAST_SPREAD, _MOST_SPREAD = 0.025, 0.2  # of sRGB
_TEXTURE = 1.5  # spreads that a borrowed colour may be from the usual one
_SMOOTHING = 4  # rounds of averaging among neighbours


@dataclass(frozen=True)
class Usual:
    """What a limb looks like around each Gaussian, where anything of the limb is seen."""

    known: np.ndarray  # [N] bool
    colour: np.ndarray  # [N, 3] sRGB
    spread: np.ndarray  # [N] typical distance of real colours from it, in each channel

    def hold(self, colours: np.ndarray) -> np.ndarray:
        """Borrowed colours with their contrast kept to what the garment shows.  # [N, 3]"""
        room = _TEXTURE * self.spread[:, None]
        held = self.colour + np.clip(colours - self.colour, -room, room)
        return np.where(self.known[:, None], held, colours)


def usual_colours(cloud: Cloud, colours: np.ndarray, lends: np.ndarray,
                  limbs: LimbPlaces) -> Usual:
    """Medians of what the lenders [N] (bool) of the same limb or its twin show."""
    known, spread = np.zeros(len(cloud), bool), np.full(len(cloud), _LEAST_SPREAD)
    usual = colours.copy()
    for group in (TORSO, LEG, ARM):
        part = limbs.on_limb & (cloud.group == group)
        if (part & lends).sum() < _LEAST:
            continue
        places = limbs.here[:, :3] * (1, _AROUND, _AROUND)
        places = np.column_stack([places, _OTHER_PART * cloud.forearm])
        usual[part], spread[part] = _medians(places[part], places[part & lends],
                                             colours[part & lends])
        known |= part
    return Usual(known, _smooth(cloud, usual, known), spread)


def _medians(places: np.ndarray, lenders: np.ndarray,
             lent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median colour and spread of the lenders around each place.  # [P, 3], [P]"""
    thin = slice(None, None, max(1, len(lenders) // _LENDERS))
    lenders, lent, centres = lenders[thin], lent[thin], places[::_STEP]
    count = max(int(_SHARE * len(lenders)), min(_LEAST, len(lenders)))
    _, index = cKDTree(lenders).query(centres, k=count)
    around = lent[index.reshape(len(centres), -1)]  # [C, k, 3]
    middle = np.median(around, axis=1)
    spread = 1.48 * np.median(np.abs(around - middle[:, None]).mean(2), axis=1)
    _, nearest = cKDTree(centres).query(places, k=min(4, len(centres)))
    nearest = nearest.reshape(len(places), -1)
    return (middle[nearest].mean(1),
            np.clip(spread[nearest].mean(1), _LEAST_SPREAD, _MOST_SPREAD))


def _smooth(cloud: Cloud, colours: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Averages among neighbours on the surface that have a usual colour.  # [N, 3]"""
    smoothed = colours.copy()
    if not known.any():
        return smoothed
    _, near = cKDTree(cloud.means[known]).query(cloud.means[known], k=min(9, int(known.sum())))
    near = near.reshape(int(known.sum()), -1)
    for _ in range(_SMOOTHING):
        smoothed[known] = smoothed[known][near].mean(1)
    return smoothed
