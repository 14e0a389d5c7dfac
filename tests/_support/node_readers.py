# SPDX-License-Identifier: Apache-2.0
"""Other people's readers, which scripts/setup.sh installs from npm."""

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / ".venv/node/node_modules"
_TYPES = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}

need_node = pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "gltf-validator").is_dir(),
    reason="readers from npm are not installed; install node and npm, then scripts/setup.sh node",
)


def splat_transform(*files: Path) -> None:
    """PlayCanvas' converter reads some files, whatever their formats, and writes the last one."""
    tool = MODULES / "@playcanvas/splat-transform/bin/cli.mjs"
    done = subprocess.run(
        ["node", str(tool), "-w", "-g", "cpu", *map(str, files)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and files[-1].is_file(), done.stdout + done.stderr


def validate_gltf(*paths: Path) -> list[dict]:
    """The issues that Khronos' validator finds in each file."""
    script = ROOT / "tests/node/validate.cjs"
    done = subprocess.run(
        ["node", str(script), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "CROWDGAUSSIAN_NODE": str(MODULES)},
    )
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    return [reports[str(path)] for path in paths]


def read_glb(path: Path) -> tuple[dict, bytes]:
    """The JSON and the binary chunk, by the layout in the glTF specification, 4.4."""
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    start = 20 + size
    _, kind = struct.unpack_from("<I4s", data, start)
    assert kind == b"BIN\0"
    return json.loads(data[20:start]), data[start + 8 :]


def write_glb(path: Path, document: dict, blob: bytes) -> None:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    blob += b"\0" * (-len(blob) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text
    body += struct.pack("<I4s", len(blob), b"BIN\0") + blob
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)


def attribute(document: dict, blob: bytes, name: str, mesh: int = 0) -> np.ndarray:
    """The values of a primitive's attribute."""
    number = document["meshes"][mesh]["primitives"][0]["attributes"][name]
    accessor = document["accessors"][number]
    view = document["bufferViews"][accessor["bufferView"]]
    dtype = {5126: "<f4", 5121: "u1", 5123: "<u2"}[accessor["componentType"]]
    width = _TYPES[accessor["type"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    values = np.frombuffer(blob, dtype, accessor["count"] * width, start)
    return values.reshape(-1, width)
