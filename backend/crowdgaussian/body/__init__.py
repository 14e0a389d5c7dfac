# SPDX-License-Identifier: Apache-2.0
"""The body model: shape, pose and skin of a person on the 55 joints of SMPL-X."""

from .load import BODY_NAMES, load_body
from .model import BodyModel, BodyOutput

__all__ = ["BODY_NAMES", "BodyModel", "BodyOutput", "load_body"]
