# SPDX-License-Identifier: Apache-2.0
"""Whether the model files on this machine are the right ones."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError

from .catalogue import RemoteFile, RemoteWeights, WeightFile
from .hub import read_record, sha256_of
from .local import files_of

_V = 10475  # vertices of SMPL-X
_SMPLX = {
    "v_template": (_V, 3),
    "f": (20908, 3),
    "posedirs": (_V, 3, 486),
    "weights": (_V, 55),
    "J_regressor": (55, _V),
    "kintree_table": (2, 55),
    "lmk_faces_idx": (51,),
    "lmk_bary_coords": (51, 3),
}


@dataclass(frozen=True)
class Verdict:
    """About one model."""

    name: str
    state: str  # "ok", "missing", "wrong" or "unknown" (nothing to compare with)
    detail: str = ""


def verify(entry: RemoteWeights) -> Verdict:
    """Compares sizes and hashes with what is published, or else with what was fetched."""
    files = list(zip(entry.files, files_of(entry), strict=True))
    missing = [file.name for file, path in files if not path.is_file()]
    if missing:
        return Verdict(entry.name, "missing", ", ".join(missing))
    if entry.name == "smplx":
        return verify_smplx(files[0][1])
    record, unknown = read_record(entry), []
    for file, path in files:
        fault = _fault(file, path, record.get(file.name, {}))
        if fault:
            return Verdict(entry.name, "wrong", f"{file.name}: {fault}")
        if not file.sha256 and file.name not in record:
            unknown.append(file.name)
    if unknown:
        return Verdict(entry.name, "unknown", f"no hash is known of {', '.join(unknown)}")
    published = all(file.sha256 for file in entry.files)
    return Verdict(entry.name, "ok", "as published" if published else "unchanged since fetched")


def verify_packaged(file: WeightFile) -> Verdict:
    """As verify, of a bundled file."""
    try:
        file.provenance()
    except CrowdGaussianError as error:
        return Verdict(file.name, "missing" if not _exists(file) else "wrong", str(error))
    return Verdict(file.name, "ok", "as published" if file.digest else "part of this program")


def verify_smplx(path: Path) -> Verdict:
    """Whether a file has the arrays and shapes of SMPL-X; its hash is not published."""
    try:
        shapes = array_shapes(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return Verdict("smplx", "wrong", f"{path.name} is no readable .npz: {error}")
    for key, shape in _SMPLX.items():
        if shapes.get(key) != shape:
            found = shapes.get(key, "missing")
            return Verdict("smplx", "wrong", f"{key} is {found} instead of {shape}")
    betas = shapes.get("shapedirs", (0, 0, 0))
    if betas[:2] != (_V, 3) or betas[2] < 10:
        return Verdict("smplx", "wrong", f"shapedirs is {betas} instead of ({_V}, 3, 10 or more)")
    return Verdict("smplx", "ok", "its arrays have SMPL-X's shapes; no hash is published")


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a .npz, without reading them.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: no readable .npz.
    """
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shapes[member.removesuffix(".npy")] = read(stream)[0]
    return shapes


def _fault(file: RemoteFile, path: Path, fetched: dict) -> str:
    size = path.stat().st_size
    for wanted in (file.size, fetched.get("size", 0)):
        if wanted and size != wanted:
            return f"{size:,} bytes instead of {wanted:,}"
    wanted = [digest for digest in (file.sha256, fetched.get("sha256", "")) if digest]
    if wanted:
        digest = sha256_of(path)
        if not all(digest.startswith(start) for start in wanted):
            return f"its SHA-256 is {digest[:12]}.., not {wanted[0][:12]}.."
    return ""


def _exists(file: WeightFile) -> bool:
    try:
        return file.path().is_file()
    except CrowdGaussianError:
        return False
