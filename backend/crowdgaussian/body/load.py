# SPDX-License-Identifier: Apache-2.0
"""Body models from files, found by name, once: SMPL-X and the open body.

SMPL-X is the user's own .npz (smpl-x.is.tue.mpg.de; non-commercial research licence). Its arrays
are read without pickle; the model is Pavlakos et al. 2019, eq. 2-5, in the joint order of the smplx
package, whose published vertex ids give the landmarks. Pose zero is the flat hand.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import DamagedFileError, InputError, MissingFileError, SettingError
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, NUM_JOINTS, PARENTS, mirror_index
from scipy.spatial import cKDTree

from ..core.landmarks import NUM_LANDMARKS
from ..core.landmarks import Landmark as L
from ..weights.local import SMPLX, UsedFile, locate, used_file
from .model import BetasTable, BodyData, BodyModel, read_arrays

NUM_BETAS = 10
LICENCE = "SMPL-X model licence (non-commercial research)"
_FILE = "SMPLX_NEUTRAL.npz"
_SMPLX_KEYS = (
    "v_template",
    "f",
    "shapedirs",
    "posedirs",
    "J_regressor",
    "kintree_table",
    "weights",
    "lmk_faces_idx",
    "lmk_bary_coords",
)
# MediaPipe landmark -> name in smplx.vertex_ids: weight
_VERTEX_LANDMARKS = {
    L.NOSE: {"nose": 1.0},
    L.LEFT_EYE: {"leye": 1.0},
    L.RIGHT_EYE: {"reye": 1.0},
    L.LEFT_EAR: {"lear": 0.88, "rear": 0.12},
    L.RIGHT_EAR: {"rear": 0.88, "lear": 0.12},
    L.LEFT_FOOT_INDEX: {"LBigToe": 0.8, "LSmallToe": 0.2},
    L.RIGHT_FOOT_INDEX: {"RBigToe": 0.8, "RSmallToe": 0.2},
}
# MediaPipe landmark -> row of the 51 iBUG face landmarks (68 without the contour)
_FACE_LANDMARKS = {
    L.LEFT_EYE_INNER: 25,
    L.LEFT_EYE_OUTER: 28,
    L.RIGHT_EYE_INNER: 22,
    L.RIGHT_EYE_OUTER: 19,
    L.MOUTH_LEFT: 37,
    L.MOUTH_RIGHT: 31,
}
# left MediaPipe landmark -> joint: weight; the right one is the next id. MediaPipe marks hips
# outside SMPL-X's hip joints and ankles above its ankle joints.
_JOINT_LANDMARKS = {
    L.LEFT_SHOULDER: {"left_shoulder": 1.0},
    L.LEFT_ELBOW: {"left_elbow": 0.95, "left_shoulder": 0.05},
    L.LEFT_WRIST: {"left_wrist": 1.0},
    L.LEFT_PINKY: {"left_pinky1": 0.85, "left_wrist": 0.15},
    L.LEFT_INDEX: {"left_index1": 0.85, "left_wrist": 0.15},
    L.LEFT_THUMB: {"left_thumb2": 1.0},
    L.LEFT_HIP: {"left_hip": 1.25, "right_hip": -0.25},
    L.LEFT_KNEE: {"left_knee": 1.0},
    L.LEFT_ANKLE: {"left_ankle": 0.91, "left_knee": 0.09},
}
_HEELS = {L.LEFT_HEEL: ("LHeel", "left_ankle"), L.RIGHT_HEEL: ("RHeel", "right_ankle")}
_HEEL_ANKLE = 0.7  # share of the ankle joint in the heel landmark
_SLOTS = 4


def find_smplx(path: Path | None) -> Path:
    """The .npz that a file or folder stands for.

    Raises:
        CrowdGaussianError: no path, or no SMPL-X .npz there.
    """
    if path is None:
        raise MissingFileError(
            f"The body model 'smplx' needs the path of {_FILE} from smpl-x.is.tue.mpg.de; "
            "give it, or use the body model 'open'."
        )
    if path.is_dir():
        for candidate in (path / _FILE, path / "smplx" / _FILE):
            if candidate.is_file():
                return candidate
        raise MissingFileError(f"The folder {path} holds no {_FILE}.")
    if path.suffix != ".npz":
        raise InputError(f"SMPL-X is read from .npz only, not from {path}.")
    return path


def read_smplx(path: Path | None) -> BodyData:
    """Read SMPL-X.

    Raises:
        CrowdGaussianError: the file is missing, lacks arrays, or has another skeleton.
    """
    found = find_smplx(path)
    arrays = read_arrays(found, _SMPLX_KEYS, "SMPL-X")
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
        "v_template": (vertices, 3),
        "J_regressor": (NUM_JOINTS, vertices),
        "weights": (vertices, NUM_JOINTS),
        "posedirs": (vertices, 3, 9 * (NUM_JOINTS - 1)),
        "kintree_table": (2, NUM_JOINTS),
    }
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            raise DamagedFileError(
                f"{path} is not SMPL-X: {key} has the shape {arrays[key].shape} "
                f"where {shape} is expected."
            )
    shapes = arrays["shapedirs"].shape
    if shapes[:2] != (vertices, 3) or len(shapes) != 3 or shapes[2] < NUM_BETAS:
        raise DamagedFileError(f"{path} is not SMPL-X: shapedirs has the shape {shapes}.")
    if tuple(arrays["kintree_table"][0, 1:].astype(np.int64)) != PARENTS[1:]:
        raise DamagedFileError(f"{path} is not SMPL-X: its joints have other parents.")


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
    names = smplx_vertex_ids()
    rows = {k: {names[n]: w for n, w in row.items()} for k, row in _VERTEX_LANDMARKS.items()}
    for landmark, row in _FACE_LANDMARKS.items():
        corners = arrays["f"][int(arrays["lmk_faces_idx"][row])].tolist()
        rows[landmark] = dict(zip(corners, arrays["lmk_bary_coords"][row].tolist(), strict=True))
    for landmark, (vertex, joint) in _HEELS.items():
        ankle = count + JOINT_INDEX[joint]
        rows[landmark] = {names[vertex]: 1 - _HEEL_ANKLE, ankle: _HEEL_ANKLE}
    twin = mirror_index()
    for left, named in _JOINT_LANDMARKS.items():
        joints = {JOINT_INDEX[name]: weight for name, weight in named.items()}
        rows[left] = {count + j: w for j, w in joints.items()}
        rows[L(left + 1)] = {count + int(twin[j]): w for j, w in joints.items()}
    ids = np.zeros((NUM_LANDMARKS, _SLOTS), dtype=np.int64)
    weights = np.zeros((NUM_LANDMARKS, _SLOTS), dtype=np.float32)
    for landmark, shares in rows.items():
        ids[landmark, : len(shares)] = list(shares)
        weights[landmark, : len(shares)] = list(shares.values())
    return ids, weights


def smplx_vertex_ids() -> dict[str, int]:
    try:
        from smplx.vertex_ids import vertex_ids
    except ImportError as error:
        raise MissingFileError(
            "The body model 'smplx' needs the smplx package: pip install smplx."
        ) from error
    return vertex_ids["smplx"]


# The open body: the shipped file, made by scripts/build_open_body.py from CC0 data

SHIPPED = Path(__file__).with_name("open_body.npz")
_SLIDERS = ("sex", "age", "muscle", "weight", "height")
_OPEN_KEYS = (
    "template",
    "directions",
    "joints",
    "joint_directions",
    "faces",
    "uv",
    "uv_faces",
    "mirror_vertices",
    "landmark_ids",
    "landmark_weights",
    "interior",
    "eyes",
    "skin_joints",
    "skin_weights4",
    "table_betas",
    "age_years",
    "age_slider",
    "licence",
    "source",
    *(f"table_{slider}" for slider in _SLIDERS),
)


def read_open_body(path: Path | None = None) -> BodyData:
    """Read the open body.

    Raises:
        CrowdGaussianError: the file is missing or is not an open body.
    """
    arrays = read_arrays(SHIPPED if path is None else path, _OPEN_KEYS, "the open body")
    weights = np.zeros((len(arrays["template"]), NUM_JOINTS), dtype=np.float32)
    np.put_along_axis(
        weights, arrays["skin_joints"].astype(np.int64), arrays["skin_weights4"], axis=1
    )
    return BodyData(
        name="open",
        licence=str(arrays["licence"]),
        commercial=True,
        source=str(arrays["source"]),
        skin_weights=weights,
        faces=arrays["faces"].astype(np.int64),
        uv_faces=arrays["uv_faces"].astype(np.int64),
        mirror_vertices=arrays["mirror_vertices"].astype(np.int64),
        directions=arrays["directions"].astype(np.float32),
        table=BetasTable(
            axes=tuple(arrays[f"table_{slider}"] for slider in _SLIDERS),
            betas=arrays["table_betas"],
            age_years=arrays["age_years"],
            age_slider=arrays["age_slider"],
        ),
        **{
            name: arrays[name]
            for name in (
                "template",
                "joints",
                "joint_directions",
                "uv",
                "interior",
                "eyes",
                "landmark_ids",
                "landmark_weights",
            )
        },
    )


BODY_NAMES = ("open", "smplx")


def load_body(name: str = "open", path: str | Path | None = None) -> BodyModel:
    """Load a body model; the same name and path give the same object.

    Args:
        name: "open" (shipped, commercial use allowed) or "smplx" (the user's own SMPL-X file,
            non-commercial).
        path: for "smplx" the .npz, or a folder that holds SMPLX_NEUTRAL.npz; for "open" another
            file than the shipped one.

    Raises:
        CrowdGaussianError: an unknown name, or a file that is missing or not a body model.
    """
    return _load(name, None if path is None else Path(path).resolve())


@lru_cache(maxsize=4)
def _load(name: str, path: Path | None) -> BodyModel:
    if name == "open":
        return BodyModel(read_open_body(path))
    if name == "smplx":
        return BodyModel(read_smplx(path))
    raise SettingError(f"There is no body model '{name}'; choose one of {', '.join(BODY_NAMES)}.")


def open_model(settings: None = None, body: None = None) -> BodyModel:
    """Load the body model that ships, as a stage of the pipeline."""
    return load_body("open")


def smplx_model(settings: None = None, body: None = None) -> BodyModel:
    """Load the user's own SMPL-X, as a stage of the pipeline.

    Raises:
        CrowdGaussianError: its file is missing or not a body model.
    """
    return load_body("smplx", locate("", SMPLX))


def smplx_files(settings: None = None) -> list[UsedFile]:
    """The file of the user's own SMPL-X.

    Raises:
        CrowdGaussianError: it is missing.
    """
    return [used_file("", SMPLX)]
