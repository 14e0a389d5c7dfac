# SPDX-License-Identifier: Apache-2.0
"""A file for libraries that only write to a path; what they wrote is then put in place whole."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.files import write_sentence


@contextmanager
def scratch_file(suffix: str) -> Iterator[Path]:
    """A path in a folder that is gone afterwards.

    Raises:
        CrowdGaussianError: the disk is full, or there is no folder for temporary files.
    """
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryDirectory(prefix="crowdgaussian-") as name:
            folder = Path(name)
            yield folder / f"export{suffix}"
    except OSError as error:
        raise CrowdGaussianError(write_sentence(folder, error)) from error
