# SPDX-License-Identifier: Apache-2.0
"""People whose bodies are known already, as the people stage hands them on."""

import numpy as np

from .types import Keypoints, Person


def known_person(betas: np.ndarray, pose: np.ndarray, transl: np.ndarray, scale: float,
                 mask: np.ndarray) -> Person:
    """A person without keypoints.

    Args:
        betas: [B] float32.
        pose: [55, 3] float32 axis-angle, scene frame.
        transl: [3] float32 metres, scene frame.
        scale: of the rest body.
        mask: [H, W] bool, where the photo shows the person.
    """
    none = Keypoints(np.zeros((33, 2), np.float32), np.zeros(33, np.float32),
                     np.zeros((33, 3), np.float32))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if len(rows) else [0] * 4
    return Person(betas, pose, transl, scale, none, np.array(box, np.float32), 1.0,
                  mask.astype(np.uint8) * 255)
