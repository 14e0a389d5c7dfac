# SPDX-License-Identifier: GPL-3.0-or-later
"""The asset catalogues of the folder that a .blend file lies in: blender_assets.cats.txt.

The file may hold the artist's own catalogues: lines that are not ours are kept as they are, the
file is replaced as a whole, and one that is not understood is left alone.
"""

from pathlib import Path

import bpy
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.files import read_bytes, write_bytes

POSES = "9d1f5b0a-64c3-4d63-9a3e-6f0e6a1c7a51"
PEOPLE = "3b8a7c52-0c4f-4f0e-8b5e-2d9f1e7c4b90"
_OURS = {POSES: "CrowdGaussian/Poses", PEOPLE: "CrowdGaussian/People"}
_NAME = "blender_assets.cats.txt"
_HEAD = "# This is an Asset Catalog Definition file for Blender.\n#\n# Empty lines and lines " \
        "starting with `#` will be ignored.\n# The first non-ignored line should be the version " \
        "indicator.\n# Other lines are of the format \"UUID:catalog/path/for/assets:simple " \
        "catalog name\"\n\nVERSION 1\n\n"
_MOST = 16 << 20


def catalogue_file() -> Path | None:
    """Where the catalogues of this .blend are; None while it is not saved."""
    return Path(bpy.data.filepath).parent / _NAME if bpy.data.filepath else None


def write_catalogues() -> bool:
    """Add our catalogues beside the saved .blend -> whether there is a saved .blend.

    Raises:
        CrowdGaussianError: the file is of a newer version or cannot be written.
    """
    path = catalogue_file()
    if path is None:
        return False
    text = _HEAD
    if path.exists():
        text = _read(path)
    known = {line.split(":", 1)[0].strip().lower() for line in text.splitlines()}
    lines = [f"{key}:{place}:{place.replace('/', '-')}\n" for key, place in _OURS.items()
             if key not in known]  # fmt: skip
    if lines:
        text += "" if text.endswith("\n") else "\n"
        write_bytes(path, (text + "".join(lines)).encode())
    return True


def _read(path: Path) -> str:
    try:
        text = read_bytes(path, _MOST).decode()
    except UnicodeDecodeError as error:
        raise CrowdGaussianError(f"{path} is not a text; move it away and try again.") from error
    lines = [line.strip() for line in text.splitlines()]
    first = next((line for line in lines if line and not line.startswith("#")), "VERSION 1")
    if first != "VERSION 1":
        raise CrowdGaussianError(
            f"{path} is not of the version that this add-on knows; no catalogue was written."
        )
    return text
