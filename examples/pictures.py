# SPDX-License-Identifier: Apache-2.0
"""Pictures of a finished scene: python pictures.py SCENE OUT

Everybody as the photo's camera sees them, then each person from four sides, on one sheet.
"""

import sys
from pathlib import Path

import crowdgaussian
import numpy as np
from PIL import Image

scene = crowdgaussian.Scene(sys.argv[1])
out = Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
Image.fromarray(scene.render()).save(out / "photo.png")

rows = []
for person in scene.people:
    views = [person.render(camera) for camera in person.cameras(4, size=256)]
    rows.append(np.concatenate(views, axis=1))  # [256, 1024, 4]
Image.fromarray(np.concatenate(rows)).save(out / "people.png")
print(f"{len(scene.people)} people, {len(scene.gaussians())} splats")
