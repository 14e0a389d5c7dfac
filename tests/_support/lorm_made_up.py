# SPDX-License-Identifier: Apache-2.0
"""Made-up LHM checkpoints: any layout, full size too, as sparse files that take no space."""

import json
import struct
from pathlib import Path

import numpy as np
from crowdgaussian.lorm.checkpoint import BODY, LAYER, body_shapes, network_shapes, point_shapes
from crowdgaussian.lorm.model.config import HeadEncoderConfig, LormConfig
from crowdgaussian_shared.formats.ply import write_vertices
from crowdgaussian_shared.geometry.skeleton import PARENTS

SHARED = Path(__file__).resolve().parents[3] / "shared"
VERTICES, FACES = 10475, 20908
VOXELS = {BODY + "voxel_ws": (55, 96, 192, 192), BODY + "voxel_bbox": (3, 2)}
_INT64 = ("faces_tensor", "parents", "lmk_faces_idx", "neck_kin_chain", "extra_joints_idxs")
_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "BOOL": 1}

PUBLISHED = {
    "mini": LormConfig(layers=2, num_points=20000),
    "500m-hf": LormConfig(),
    "1b": LormConfig(layers=15),
}
SMALL = LormConfig(
    width=64,
    heads=2,
    layers=2,
    num_points=400,
    cond_dim=96,
    motion_hidden=32,
    decoder_hidden=48,
    head_encoder=HeadEncoderConfig(
        depth=4, width=64, heads=1, patch=14, grid=3, mlp=128, taps=(0, 1, 2, 3)
    ),
)


def shapes_of(config: LormConfig, vertices: int = VERTICES, faces: int = FACES) -> dict:
    """Every tensor of a checkpoint."""
    return (
        network_shapes(config)
        | point_shapes(config)
        | body_shapes(config, vertices, faces)
        | VOXELS
    )


def dtype_of(name: str, floats: str = "F32") -> str:
    if name.startswith(BODY + "is_"):
        return "BOOL"
    return "I64" if name.endswith(_INT64) else floats


def write_checkpoint(
    path: Path, shapes: dict, values: dict | None = None, floats: str = "F32"
) -> int:
    """Writes a safetensors file in which everything but `values` is a hole.

    Tensors are ordered as safetensors does it: widest numbers first, then by name.

    Returns:
        Its size in bytes.
    """
    names = sorted(shapes, key=lambda name: (-_BYTES[dtype_of(name, floats)], name))
    header, end = {}, 0
    for name in names:
        dtype = dtype_of(name, floats)
        start, end = end, end + _BYTES[dtype] * int(np.prod(shapes[name]))
        header[name] = {"dtype": dtype, "shape": list(shapes[name]), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, value in (values or {}).items():
            file.seek(8 + len(text) + header[name]["data_offsets"][0])
            file.write(np.ascontiguousarray(value).tobytes())
        file.truncate(8 + len(text) + end)
    return 8 + len(text) + end


def body_values(
    config: LormConfig, rng: np.random.Generator, vertices: int = VERTICES, faces: int = FACES
) -> tuple[dict, np.ndarray]:
    """A body with an upright template, and query points on its vertices.  # values, [N, 3]"""
    template = rng.uniform(-1, 1, (vertices, 3)).astype(np.float32)
    weights = np.zeros((vertices, 55), np.float32)
    np.put_along_axis(weights, rng.integers(0, 55, (vertices, 4)), 0.25, axis=1)
    weights /= weights.sum(1, keepdims=True)
    directions = rng.normal(0, 0.01, (vertices, 3, config.num_betas)).astype(np.float32)
    owner = rng.integers(0, vertices, config.num_points)
    regressor = np.zeros((55, vertices), np.float32)
    regressor[np.arange(55), rng.integers(0, vertices, 55)] = 1
    values = {
        LAYER + "v_template": template,
        LAYER + "lbs_weights": weights,
        LAYER + "shapedirs": directions,
        LAYER + "J_regressor": regressor,
        LAYER + "parents": np.array(PARENTS, np.int64),
        LAYER + "faces_tensor": rng.integers(0, vertices, (faces, 3)),
        BODY + "skinning_weight": weights[owner],
        BODY + "shape_dirs": directions[owner],
        BODY + "is_constrain_body": rng.random(config.num_points) < 0.1,
        BODY + "is_upper_body": rng.random(config.num_points) < 0.5,
    }
    return values, template[owner]


def write_points(path: Path, places: np.ndarray) -> Path:
    rows = np.empty(len(places), dtype=[(axis, "<f4") for axis in "xyz"])
    for column, axis in enumerate("xyz"):
        rows[axis] = places[:, column]
    with path.open("wb") as stream:
        write_vertices(stream, rows)
    return path


def assert_close(ours, theirs, relative=1e-5):
    """Compare two tensors, by the largest value of the second."""
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error <= relative, float(error)
