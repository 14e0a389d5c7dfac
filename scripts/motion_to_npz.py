# SPDX-License-Identifier: Apache-2.0
"""Motions in pickles as plain arrays, which are read: python this.py FILE [FILE ...] [--fps N]

AIST++, 3DPW, ROMP, GVHMR and many others keep SMPL parameters in pickles (.pkl, .npy or .npz with
objects) or PyTorch files (.pt), and the project reads no pickles. This script, run by whoever
trusts the file, writes an .npz beside it for each motion that it finds inside, however deep. Even
here nothing but numpy arrays and torch tensors is taken; whatever else a file asks for is refused.
"""

import argparse
import pickle
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats.npz import write_npz
from crowdgaussian_shared.motion.npz import read_motion_npz
from pickled_arrays import DAMAGE, ArraysOnly

_DEEPEST = 4  # dictionaries in each other
_SCALING = "smpl_scaling"  # of AIST++: smpl_trans is in units of the scaled body

Arrays = dict[str, np.ndarray]


def convert(path: Path, fps: float | None = None) -> list[Path]:
    """Writes every motion of a file beside it -> the files.

    Args:
        path: .pkl, .pickle, .npy, .npz, .pt or .pth.
        fps: frames a second, where the file does not say.

    Raises:
        ValueError: it holds none; says why.
    """
    try:
        content = _load(path)
        found = list(_motions(content))
    except (*DAMAGE, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error
    written, reasons = [], []
    for name, arrays in found:
        out = path.with_name("_".join((path.stem, *name)) + ".npz")
        if out == path:
            out = path.with_name(f"{path.stem}_motion.npz")
        if fps is not None:
            arrays["mocap_frame_rate"] = np.array(fps, np.float64)
        write_npz(out, arrays)
        try:
            read_motion_npz(out)
        except CrowdGaussianError as error:
            out.unlink()
            reasons.append(str(error))
        else:
            written.append(out)
    if not written:
        raise ValueError(reasons[0] if reasons else "it holds no arrays")
    return written


def _load(path: Path) -> Any:
    if path.suffix.lower() in (".pt", ".pth"):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # whose own words say how to run what it holds
            raise ValueError("it asks for more than tensors, which is refused") from error
    with path.open("rb") as stream:
        if path.suffix.lower() == ".npy":
            return _load_array(stream)
        if path.suffix.lower() != ".npz":
            return ArraysOnly(stream, encoding="latin1").load()
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
            return {name.removesuffix(".npy"): _load_array(archive.open(name)) for name in names}


def _load_array(stream: IO[bytes]) -> np.ndarray:
    """As numpy.load with pickles, but for what they may ask for."""
    version = np.lib.format.read_magic(stream)
    formats = np.lib.format
    read = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    shape, fortran, dtype = read[version](stream)
    if dtype.hasobject:
        return ArraysOnly(stream, encoding="latin1").load()
    values = np.frombuffer(stream.read(), dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def _motions(content: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Arrays]]:
    """The arrays of each dictionary, which may be a motion; person by person where it has lists."""
    if isinstance(content, np.ndarray) and content.dtype.hasobject and content.size == 1:
        content = content.reshape(-1)[0]
    if not isinstance(content, Mapping) or len(name) > _DEEPEST:
        return
    values = {re.sub(r"\W+", "_", str(key)): _plain(value) for key, value in content.items()}
    arrays = {key: v for key, v in values.items() if isinstance(v, np.ndarray) and _numbers(v)}
    if _SCALING in arrays and "smpl_trans" in arrays:
        arrays["smpl_trans"] = arrays["smpl_trans"] / float(arrays.pop(_SCALING).reshape(-1)[0])
    if any(array.ndim > 1 for array in arrays.values()):
        yield name, arrays
    people = {key: v for key, v in values.items() if isinstance(v, list)}
    for k in range(max((len(v) for v in people.values()), default=0)):
        of_person = {key: v[k] for key, v in people.items() if k < len(v)}
        yield from _motions(of_person, (*name, f"person{k}"))
    for key, value in values.items():
        yield from _motions(value, (*name, key))


def _numbers(values: np.ndarray) -> bool:
    return values.dtype.kind in "iuf"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.hasobject and value.size > 1:
        try:
            return np.array(value.tolist(), np.float64)  # numbers that were saved as objects
        except (TypeError, ValueError):
            return list(value)
    return value.numpy() if isinstance(value, torch.Tensor) else value


def main() -> int:
    """Converts the files of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--fps", type=float, help="frames a second, where the file does not say")
    options = parser.parse_args()
    refused = 0
    for path in options.files:
        try:
            written = convert(path, options.fps)
        except (ValueError, CrowdGaussianError) as error:
            refused += 1
            print(f"{path} is left out: {error}", file=sys.stderr)
        else:
            print("\n".join(map(str, written)))
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
