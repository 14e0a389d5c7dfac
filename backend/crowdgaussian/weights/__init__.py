# SPDX-License-Identifier: Apache-2.0
"""The one catalogue of every model file: its source, its hash, and what its licence allows."""

from .catalogue import (
    CATALOGUE,
    HAND_LANDMARKS,
    OPEN_BODY,
    OPEN_COMPLETION,
    OPEN_REFINER,
    POSE_DETECTOR,
    POSE_LANDMARKS,
    POSE_LANDMARKS_HEAVY,
    RemoteWeights,
    WeightFile,
)
from .local import local_path, require, weights_folder
from .table import TABLE, find

__all__ = [
    "CATALOGUE",
    "HAND_LANDMARKS",
    "OPEN_BODY",
    "OPEN_COMPLETION",
    "OPEN_REFINER",
    "POSE_DETECTOR",
    "POSE_LANDMARKS",
    "POSE_LANDMARKS_HEAVY",
    "TABLE",
    "RemoteWeights",
    "WeightFile",
    "find",
    "local_path",
    "require",
    "weights_folder",
]
