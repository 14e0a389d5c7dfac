# SPDX-License-Identifier: Apache-2.0
"""SMPL-X from the user's own .npz (smpl-x.is.tue.mpg.de; non-commercial research licence).

The arrays are read without pickle; the model is Pavlakos et al. 2019, eq. 2-5, in the joint order
of the smplx package, whose published vertex ids give the landmarks. Pose zero is the flat hand.
"""

from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.skeleton import JOINT_INDEX, NUM_JOINTS, PARENTS
from scipy.spatial import cKDTree

from .data import BodyData
from .files import read_arrays

NUM_BETAS = 10
LICENCE = "SMPL-X model licence (non-commercial research)"
_FILE = "SMPLX_NEUTRAL.npz"
_KEYS = (
    "v_template", "f", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights",
    "lmk_faces_idx", "lmk_bary_coords",
)
# MediaPipe landmark -> name in smplx.vertex_ids
_VERTEX_LANDMARKS = {
    0: "nose", 2: "leye", 5: "reye", 7: "lear", 8: "rear", 29: "LHeel", 30: "RHeel",
    31: "LBigToe", 32: "RBigToe",
}
# MediaPipe landmark -> row of the 51 iBUG face landmarks (68 without the contour)
_FACE_LANDMARKS = {1: 25, 3: 28, 4: 22, 6: 19, 9: 37, 10: 31}
# left MediaPipe landmark -> joints whose mean it is; the right one is the next id
_JOINT_LANDMARKS = {
    11: ("shoulder",), 13: ("elbow",), 15: ("wrist",), 17: ("pinky1",), 19: ("index1",),
    21: ("thumb2", "thumb3"), 23: ("hip",), 25: ("knee",), 27: ("ankle",),
}
_HIP_WIDENING = 1.45  # SMPL-X's hip joints lie inside the ones that people annotate
_SLOTS = 4


def find_smplx(path: Path | None) -> Path:
    """The .npz that a file or folder stands for.

    Raises:
        CrowdGaussianError: no path, or no SMPL-X .npz there.
    """
    if path is None:
        raise CrowdGaussianError(
            f"The body model 'smplx' needs the path of {_FILE} from smpl-x.is.tue.mpg.de; "
            "give it, or use the body model 'open'."
        )
    if path.is_dir():
        for candidate in (path / _FILE, path / "smplx" / _FILE):
            if candidate.is_file():
                return candidate
        raise CrowdGaussianError(f"The folder {path} holds no {_FILE}.")
    if path.suffix != ".npz":
        raise CrowdGaussianError(f"SMPL-X is read from .npz only, not from {path}.")
    return path


def read_smplx(path: Path | None) -> BodyData:
    """Read SMPL-X.

    Raises:
        CrowdGaussianError: the file is missing, lacks arrays, or has another skeleton.
    """
    found = find_smplx(path)
    arrays = read_arrays(found, _KEYS, "SMPL-X")
    _check(arrays, found)
    template = arrays["v_template"].astype(np.float32)
    directions = arrays["shapedirs"][:, :, :NUM_BETAS].transpose(2, 0, 1).astype(np.float32)
    regressor = arrays["J_regressor"].astype(np.float32)
    joints = regressor @ template
    weights = arrays["weights"].astype(np.float32)
    eyes = weights[:, [JOINT_INDEX["left_eye_smplhf"], JOINT_INDEX["right_eye_smplhf"]]].sum(1)
    eyes = eyes > 0.99
    uv, uv_faces = _read_uv(found, arrays["f"])
    ids, landmark_weights = _landmarks(arrays)
    return BodyData(
        name="smplx",
        licence=LICENCE,
        commercial=False,
        source=found.name,
        template=template,
        directions=directions,
        joints=joints,
        joint_directions=np.einsum("jv,bvc->bjc", regressor, directions),
        faces=arrays["f"].astype(np.int64),
        uv=uv,
        uv_faces=uv_faces,
        skin_weights=weights,
        mirror_vertices=_mirror(template),
        interior=eyes & (template[:, 2] < joints[JOINT_INDEX["left_eye_smplhf"], 2]),
        eyes=eyes,
        landmark_ids=ids,
        landmark_weights=landmark_weights,
        pose_directions=arrays["posedirs"].transpose(2, 0, 1).astype(np.float32),
    )


def _check(arrays: dict[str, np.ndarray], path: Path) -> None:
    vertices = len(arrays["v_template"])
    expected = {
        "v_template": (vertices, 3), "J_regressor": (NUM_JOINTS, vertices),
        "weights": (vertices, NUM_JOINTS), "posedirs": (vertices, 3, 9 * (NUM_JOINTS - 1)),
        "kintree_table": (2, NUM_JOINTS),
    }
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            raise CrowdGaussianError(
                f"{path} is not SMPL-X: {key} has the shape {arrays[key].shape} "
                f"where {shape} is expected."
            )
    shapes = arrays["shapedirs"].shape
    if shapes[:2] != (vertices, 3) or len(shapes) != 3 or shapes[2] < NUM_BETAS:
        raise CrowdGaussianError(f"{path} is not SMPL-X: shapedirs has the shape {shapes}.")
    if tuple(arrays["kintree_table"][0, 1:].astype(np.int64)) != PARENTS[1:]:
        raise CrowdGaussianError(f"{path} is not SMPL-X: its joints have other parents.")


def _read_uv(path: Path, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The file's texture coordinates, or zeros where it has none."""
    with np.load(path, allow_pickle=False) as archive:
        if "vt" in archive and "ft" in archive:
            return archive["vt"].astype(np.float32), archive["ft"].astype(np.int64)
    return np.zeros((1, 2), dtype=np.float32), np.zeros(faces.shape, dtype=np.int64)


def _mirror(template: np.ndarray) -> np.ndarray:
    """Nearest vertex of the mirrored body; itself where that is not mutual.  # [V]"""
    tree = cKDTree(template)
    partner = tree.query(template * np.array([-1.0, 1.0, 1.0], dtype=np.float32))[1]
    own = np.arange(len(template))
    return np.where(partner[partner] == own, partner, own)


def _landmarks(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ids [33, 4] into vertices followed by joints, and weights [33, 4]."""
    count = len(arrays["v_template"])
    rows: dict[int, list[tuple[int, float]]] = {}
    names = _vertex_ids()
    for landmark, name in _VERTEX_LANDMARKS.items():
        rows[landmark] = [(names[name], 1.0)]
    for landmark, row in _FACE_LANDMARKS.items():
        corners = arrays["f"][int(arrays["lmk_faces_idx"][row])]
        share = arrays["lmk_bary_coords"][row]
        rows[landmark] = [(int(v), float(w)) for v, w in zip(corners, share, strict=True)]
    for left, joints in _JOINT_LANDMARKS.items():
        for offset, side in enumerate(("left", "right")):
            ids = [count + JOINT_INDEX[f"{side}_{joint}"] for joint in joints]
            rows[left + offset] = [(i, 1.0 / len(ids)) for i in ids]
    hips = [count + JOINT_INDEX["left_hip"], count + JOINT_INDEX["right_hip"]]
    far = 0.5 * (1 + _HIP_WIDENING)
    rows[23] = [(hips[0], far), (hips[1], 1 - far)]
    rows[24] = [(hips[1], far), (hips[0], 1 - far)]
    ids = np.zeros((33, _SLOTS), dtype=np.int64)
    weights = np.zeros((33, _SLOTS), dtype=np.float32)
    for landmark, row in rows.items():
        ids[landmark, : len(row)] = [i for i, _ in row]
        weights[landmark, : len(row)] = [w for _, w in row]
    return ids, weights


def _vertex_ids() -> dict[str, int]:
    try:
        from smplx.vertex_ids import vertex_ids
    except ImportError as error:
        raise CrowdGaussianError(
            "The body model 'smplx' needs the smplx package: pip install smplx."
        ) from error
    return vertex_ids["smplx"]
