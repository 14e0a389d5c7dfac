# SPDX-License-Identifier: Apache-2.0
"""The bundled sample picture and what is true about it. Made by scripts/render_sample.py."""

from .ground_truth import GroundTruth, TruePerson, load_ground_truth, sample_photo

__all__ = ["GroundTruth", "TruePerson", "load_ground_truth", "sample_photo"]
