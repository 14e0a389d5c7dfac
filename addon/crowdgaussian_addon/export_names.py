# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of the files of one export: one or many, for each person, for each frame."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from crowdgaussian_shared.errors import CrowdGaussianError

FRAME_DIGITS = 4
T = TypeVar("T")


def export_path(text: str, ending: str) -> Path:
    """What a file browser or a script gave, with the ending of the format.

    Args:
        text: an absolute path.
        ending: such as ".ply"; put in the place of any other ending of a format.

    Raises:
        CrowdGaussianError: no file name.
    """
    path = Path(text)
    if not text.strip() or not path.name or path.is_dir():
        raise CrowdGaussianError("No file name was given; type one in the file browser.")
    known = {".ply", ".spz", ".glb", ".gltf", ".fbx", ".bvh", ".npz"}
    return path.with_suffix(ending) if path.suffix.lower() in known else Path(f"{path}{ending}")


def person_paths(path: Path, names: Sequence[str]) -> list[Path]:
    """One file for each person: crowd.ply -> crowd_Person_000.ply; never two the same."""
    return file_names(path.parent, [f"{path.stem}_{name}" for name in names], path.suffix)


def file_groups(path: Path, names: Sequence[str], members: Sequence[T],
                separate: bool) -> dict[Path, list[T]]:
    """What goes into which file: everybody into one, or each into one of their own.

    Args:
        path: the file, or the beginning of each one's name.
        names: of the members.
        members: of the export, in the order of names.
        separate: a file for each.
    """
    if not separate:
        return {path: list(members)}
    return {own: [member] for own, member in zip(person_paths(path, names), members)}


def file_names(folder: Path, names: Sequence[str], ending: str) -> list[Path]:
    """Files named after people or objects, as far as every system allows; never two the same."""
    paths: list[Path] = []
    for name in names:
        word = re.sub(r"[^\w.-]+", "_", name).strip("_.") or "person"
        stem, number = word, 2
        while folder / f"{stem}{ending}" in paths:
            stem, number = f"{word}_{number}", number + 1
        paths.append(folder / f"{stem}{ending}")
    return paths


def frame_path(path: Path, frame: int) -> Path:
    """One file for each frame: crowd.ply -> crowd_0012.ply, crowd_-0003.ply before frame 0."""
    sign = "-" if frame < 0 else ""
    return path.with_stem(f"{path.stem}_{sign}{abs(frame):0{FRAME_DIGITS}d}")


def first_lines(paths: Sequence[Path]) -> str:
    """What was written, in words."""
    if len(paths) == 1:
        return str(paths[0])
    return f"{len(paths)} files, {paths[0].name} to {paths[-1].name}, in {paths[0].parent}"
