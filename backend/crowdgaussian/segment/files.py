# SPDX-License-Identifier: Apache-2.0
"""The files of the masks networks."""

from pathlib import Path


def sam_file(given: str) -> Path:
    """The file or folder of SAM."""
    return Path(given)
