# SPDX-License-Identifier: Apache-2.0
"""Who is drawn: the crowd that defines betas ~ N(0, 1), and extremes that stretch the basis."""

import itertools

import numpy as np

from open_body.source import AGE_ANNY, AGE_YEARS, SLIDERS

# Share and age range, years, of the people in a photo of a crowd.
CROWD_AGES = ((0.66, 18.0, 60.0), (0.14, 60.0, 85.0), (0.11, 6.0, 18.0), (0.09, 1.0, 6.0))
TABLE_SEX = np.array([0.0, 1.0])
TABLE_AGE = np.array([0.0, 1 / 3, 2 / 3, 1.0])
TABLE_MUSCLE = np.array([0.0, 0.5, 1.0])
TABLE_WEIGHT = np.array([0.0, 0.5, 1.0])
TABLE_HEIGHT = np.array([0.0, 1.0])
_HEIGHT_SLIDER = (0.18, 0.62)  # of the shortest and the tallest described adult: 1.55 to 2.03 m
_TABLE_GIRTH = (-1.0, 0.0, 1.0)  # at the table's weights


def years_to_anny(years: np.ndarray) -> np.ndarray:
    """anny's own calibration of its age slider against WHO growth data."""
    return np.interp(years, AGE_YEARS, AGE_ANNY)


def _pack(**columns: np.ndarray) -> np.ndarray:
    return np.stack([columns[name] for name in SLIDERS], axis=1)


def _common(generator: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    ancestry = generator.dirichlet([1.0, 1.0, 1.0], count)
    return {
        "african": ancestry[:, 0],
        "asian": ancestry[:, 1],
        "caucasian": ancestry[:, 2],
        "cupsize": generator.beta(2.0, 2.0, count),
        "firmness": generator.beta(2.0, 2.0, count),
    }


def crowd(generator: np.random.Generator, count: int) -> np.ndarray:
    """People as photos show them: mostly adults, a quarter children, two sexes.  # [S, 13]"""
    shares = np.array([row[0] for row in CROWD_AGES])
    group = generator.choice(len(shares), size=count, p=shares / shares.sum())
    low = np.array([row[1] for row in CROWD_AGES])[group]
    high = np.array([row[2] for row in CROWD_AGES])[group]
    sex = generator.integers(0, 2, count)
    weight = generator.beta(1.8, 1.8, count)
    fat = (2 * weight - 1) * generator.uniform(0.0, 1.0, count)
    return _pack(
        gender=np.abs(sex - np.abs(generator.normal(0.0, 0.12, count))).clip(0, 1),
        age=years_to_anny(generator.uniform(low, high)),
        muscle=generator.beta(2.0, 2.0, count),
        weight=weight,
        height=generator.normal(0.395, 0.065, count).clip(0.15, 0.7),
        girth=fat,
        belly=generator.beta(1.0, 3.0, count),
        proportions=generator.beta(2.0, 2.0, count),
        **_common(generator, count),
    )


def extremes(generator: np.random.Generator, count: int) -> np.ndarray:
    """Every slider uniform, and often at its end.  # [S, 13]"""

    def uniform() -> np.ndarray:
        return (generator.uniform(-0.25, 1.25, count)).clip(0, 1)

    return _pack(
        gender=uniform(),
        age=years_to_anny(generator.uniform(1.0, 100.0, count)),
        muscle=uniform(),
        weight=uniform(),
        height=generator.uniform(0.15, 0.7, count),
        girth=2 * uniform() - 1,
        belly=uniform(),
        proportions=uniform(),
        **_common(generator, count),
    )


def corner_bodies() -> np.ndarray:
    """The nodes of the betas_from table: sex x age x muscle x weight x height.  # [144, 13]"""
    nodes = np.array(
        list(itertools.product(TABLE_SEX, TABLE_AGE, TABLE_MUSCLE, TABLE_WEIGHT, TABLE_HEIGHT))
    )
    half = np.full(len(nodes), 0.5)
    third = np.full(len(nodes), 1 / 3)
    return _pack(
        gender=nodes[:, 0],
        age=nodes[:, 1],
        muscle=nodes[:, 2],
        weight=nodes[:, 3],
        height=np.interp(nodes[:, 4], TABLE_HEIGHT, _HEIGHT_SLIDER),
        girth=np.interp(nodes[:, 3], TABLE_WEIGHT, _TABLE_GIRTH),
        belly=0.1 * half,
        proportions=half,
        cupsize=half,
        firmness=half,
        african=third,
        asian=third,
        caucasian=third,
    )
