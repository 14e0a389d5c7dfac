# SPDX-License-Identifier: Apache-2.0
"""The files of the people networks."""

from pathlib import Path


def checkpoint_file(given: str) -> Path:
    """The Multi-HMR checkpoint."""
    return Path(given)


def smplx_file(given: str) -> Path | None:
    """SMPLX_NEUTRAL.npz, None where there is none."""
    return Path(given) if given else None
