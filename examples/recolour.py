# SPDX-License-Identifier: Apache-2.0
"""Numpy in and out: python recolour.py SCENE OUT.sog

Shirts and jackets turn blue, and the crowd becomes one file for a web viewer. `splats` are frozen;
dataclasses.replace makes others.
"""

import sys
from dataclasses import replace

import crowdgaussian
import numpy as np
from crowdgaussian_shared.geometry.avatar import MATERIALS
from crowdgaussian_shared.geometry.sh import colour_to_sh, sh_to_colour
from crowdgaussian_shared.geometry.skinning import join_gaussians

BLUE = np.array([0.2, 0.35, 0.8])
changed = []
for person in crowdgaussian.Scene(sys.argv[1]).people:
    splats, worn = person.gaussians(), person.avatar.materials
    if worn is not None:
        upper = worn.label == MATERIALS.index("upper")
        light = sh_to_colour(splats.sh).mean(axis=1, keepdims=True)  # folds and shadows stay
        sh = splats.sh.copy()
        sh[upper, :1] = colour_to_sh(2 * BLUE * light)[upper]
        splats = replace(splats, sh=sh)
    changed.append(splats)
crowdgaussian.write_splats(sys.argv[2], join_gaussians(changed))
print(f"{sum(map(len, changed))} splats -> {sys.argv[2]}")
