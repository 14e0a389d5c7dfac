# SPDX-License-Identifier: Apache-2.0
"""Splats as SPZ, the compressed format of Niantic, through gsply (MIT).

SPZ rounds: centres to a fixed step, colours and opacity to 8 bits, scales to a sixteenth of their
logarithm, rotations to 10 bits. Its axes are x right, y up, z to the viewer: our scene frame.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import InputError, MissingFileError
from crowdgaussian_shared.formats.atomic import write_bytes, write_error
from crowdgaussian_shared.geometry.avatar import Gaussians

# A file for libraries that only write to a path; what they wrote is then put in place whole


@contextmanager
def scratch_file(suffix: str) -> Iterator[Path]:
    """A path in a folder that is gone afterwards.

    Raises:
        ResourceError: the disk is full, or there is no folder for temporary files.
    """
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryDirectory(prefix="crowdgaussian-") as name:
            folder = Path(name)
            yield folder / f"export{suffix}"
    except OSError as error:
        raise write_error(folder, error) from error


_LIMIT = (1 << 23) - 1  # a centre's coordinate is a signed number of 24 bits
_FINEST = 16  # fractional bits: 0.015 mm
_MIN_ODDS, _MIN_SCALE = 1e-7, 1e-12


def write_spz(path: Path, gaussians: Gaussians) -> None:
    """Write an SPZ file of version 3 (gzip), atomically.

    Args:
        path: where to write.
        gaussians: N Gaussians of degree 0..3, scene frame.

    Raises:
        CrowdGaussianError: gsply is missing, nothing to write, too far apart, or the disk is full.
    """
    try:
        import gsply
    except ImportError as error:
        raise MissingFileError(
            "SPZ needs the package gsply; run `pip install 'crowdgaussian[export]'`."
        ) from error
    bits = fractional_bits(path, gaussians.means)
    odds = np.clip(gaussians.opacities.astype(np.float64), _MIN_ODDS, 1 - _MIN_ODDS)
    data = gsply.GSData.from_arrays(
        means=np.ascontiguousarray(gaussians.means, np.float32),
        scales=np.log(np.maximum(gaussians.scales, _MIN_SCALE)).astype(np.float32),
        quats=np.ascontiguousarray(gaussians.quats, np.float32),
        opacities=np.log(odds / (1 - odds)).astype(np.float32),
        sh0=np.ascontiguousarray(gaussians.sh[:, 0], np.float32),
        shN=np.ascontiguousarray(gaussians.sh[:, 1:], np.float32),
        format="ply",
    )
    with scratch_file(".spz") as temp:
        gsply.write_spz(temp, data, fractional_bits=bits)
        write_bytes(path, temp.read_bytes())


def fractional_bits(path: Path, means: np.ndarray) -> int:
    """The finest step that still reaches the farthest centre: 2^-bits metres.

    Raises:
        InputError: there is no splat, or one lies farther away than SPZ can say.
    """
    if not len(means):
        raise InputError(f"{path} would hold no splat; choose at least one person.")
    far = float(np.abs(means).max())
    bits = int(np.floor(np.log2(_LIMIT / max(far, 1e-6))))
    if bits < 1:
        raise InputError(
            f"{path} cannot hold splats {far:.0f} metres from the origin; move them closer."
        )
    return min(bits, _FINEST)
