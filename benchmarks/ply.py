# SPDX-License-Identifier: Apache-2.0
"""Splat PLYs: our own path against plyfile, side by side on the same file.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/ply.py [--splats 1000000] [--repeats 3]

The table of N splats of degree 0 and 3 (17 and 62 floats each) is written and read by both in
turn, into memory each time; what counts is processor time, of the best of the repeats. Then the
whole way from file to Gaussians, where plyfile may leave the file mapped and copy nothing; and the
layouts that only plyfile reads: big-endian, and a text of a hundredth of the splats.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
from crowdgaussian_shared.formats import splat_ply
from crowdgaussian_shared.formats.ply import read_vertices, write_vertices
from crowdgaussian_shared.formats.splat_ply import read_splat_ply, write_splat_ply
from crowdgaussian_shared.geometry.avatar import Gaussians
from plyfile import PlyData, PlyElement

TEXT_SHARE = 100  # one splat in so many: a text takes plyfile a loop over every number


def make_splats(count: int, degree: int) -> Gaussians:
    """Count Gaussians in a cube, of random colours."""
    rng = np.random.default_rng(0)
    quats = rng.normal(size=(count, 4))
    return Gaussians(
        means=rng.normal(size=(count, 3)).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        scales=np.exp(rng.normal(-4, 1, size=(count, 3))).astype(np.float32),
        opacities=rng.uniform(0.01, 0.99, size=count).astype(np.float32),
        sh=rng.normal(size=(count, (degree + 1) ** 2, 3)).astype(np.float32),
    )


def write_own(path: Path, rows: np.ndarray) -> None:
    with path.open("wb") as stream:
        write_vertices(stream, rows)


def write_plyfile(path: Path, rows: np.ndarray, order: str = "<", text: bool = False) -> None:
    PlyData([PlyElement.describe(rows, "vertex")], text, order).write(str(path))


def read_plyfile(path: Path) -> np.ndarray:
    rows = map_plyfile(path)
    return np.frombuffer(rows.tobytes(), rows.dtype)  # np.array would copy field by field


def map_plyfile(path: Path, _most: int | None = None) -> np.ndarray:
    return PlyData.read(str(path))["vertex"].data


def splats_plyfile(path: Path) -> Gaussians:
    with patch.object(splat_ply, "read_vertices", map_plyfile):
        return read_splat_ply(path)


def timed(repeats: int, *work: Callable[[], object]) -> list[float]:
    """The least processor seconds of each, run in turn: none is always the first."""
    seconds: list[list[float]] = [[] for _ in work]
    for repeat in range(repeats):
        for each, spent in list(zip(work, seconds))[:: -1 if repeat % 2 else 1]:
            start = time.process_time()
            each()
            spent.append(time.process_time() - start)
    return [min(spent) for spent in seconds]


def compare(folder: Path, count: int, degree: int, repeats: int) -> None:
    splats, path, other = make_splats(count, degree), folder / "own.ply", folder / "plyfile.ply"
    write_splat_ply(path, splats)
    rows = read_vertices(path)
    print(f"{count} splats of degree {degree}, {path.stat().st_size / 1e6:.0f} MB")
    both = timed(repeats, lambda: write_own(path, rows), lambda: write_plyfile(other, rows))
    report("write", *both)
    if path.read_bytes() != other.read_bytes():
        raise SystemExit("plyfile wrote other bytes")
    both = timed(repeats, lambda: read_vertices(path), lambda: read_plyfile(path))
    report("read", *both)
    if not np.array_equal(read_vertices(path), read_plyfile(path)):
        raise SystemExit("plyfile read other numbers")
    both = timed(repeats, lambda: read_splat_ply(path), lambda: splats_plyfile(path))
    report("file to Gaussians", *both)
    write_plyfile(other, rows, ">")
    (swapped,) = timed(repeats, lambda: read_vertices(other))
    print(f"  {'read, big-endian':18s} {1000 * swapped:8.0f} ms")
    few = rows[: count // TEXT_SHARE]
    write_plyfile(other, few, "=", text=True)
    (text,) = timed(1, lambda: read_vertices(other))
    print(f"  {'read, text':18s} {1000 * text:8.0f} ms for {len(few)} splats")


def report(label: str, own: float, plyfile: float) -> None:
    print(
        f"  {label:18s} {1000 * own:8.0f} ms, plyfile {1000 * plyfile:.0f} ms: "
        f"{plyfile / own:.2f} times"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--splats", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for degree in (0, 3):
            compare(Path(folder), options.splats, degree, options.repeats)


if __name__ == "__main__":
    main()
