# SPDX-License-Identifier: Apache-2.0
"""Loading a published LHM checkpoint, and the adapters that make it LORM.

Tensors are read one by one as they are needed; what the network does not use stays on the disk.
"""

import logging
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.errors import DamagedFileError, InputError, MissingFileError
from crowdgaussian_shared.formats.ply import read_vertices
from crowdgaussian_shared.geometry.skeleton import NUM_JOINTS, PARENTS
from safetensors import SafetensorError, safe_open
from scipy.spatial import cKDTree
from torch import Tensor

from ..body.model import BodyModel
from ..weights.hub import fetch_from_hub
from ..weights.local import UsedFile
from .model.adapters import load_adapters
from .model.config import LormConfig, Shapes
from .model.encoders import SapiensEncoder
from .model.lorm import LormModel, LormNetwork
from .model.query_points import QueryPoints, TemplateMesh, is_head, points_at, sample_points
from .weights import WEIGHTS_FILE as FILE
from .weights import LormStageConfig, model_files, points_file, used_files

# Which tensors an LHM checkpoint consists of, and naming those that are wrong

BODY = "renderer.smplx_model."
LAYER = BODY + "smplx_layer."
# Never read, and not missed: a face recogniser used in training, image encoders that have files of
# their own, and a grid of skin weights (0.8 GB) that the published code computes but does not use.
IGNORED = ("id_face_net.", "fine_encoder.", "faceESRGAN.", BODY + "voxel_")
_FLAGS = (
    "rhand",
    "lhand",
    "face",
    "face_expr",
    "lower_body",
    "upper_body",
    "constrain_body",
    "cavity",
)
_EXPRESSIONS, _POSE_DIRS = 100, 9 * (NUM_JOINTS - 1)
_NAMED = 3  # at most so many tensors in one sentence


def network_shapes(config: LormConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the network's own tensors."""
    with torch.device("meta"):
        state = LormNetwork(config).state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


def point_shapes(config: LormConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of what the checkpoint stores for each point."""
    n = config.num_points
    flags = {f"{BODY}is_{flag}": (n,) for flag in _FLAGS}
    return flags | {
        BODY + "skinning_weight": (n, NUM_JOINTS),
        BODY + "pose_dirs": (_POSE_DIRS, 3 * n),
        BODY + "expr_dirs": (n, 3, _EXPRESSIONS),
        BODY + "shape_dirs": (n, 3, config.num_betas),
    }


def body_shapes(config: LormConfig, vertices: int, faces: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the SMPL-X data in the checkpoint (10,475 vertices and 20,908 faces)."""
    shapes = {
        "shapedirs": (vertices, 3, config.num_betas),
        "faces_tensor": (faces, 3),
        "v_template": (vertices, 3),
        "J_regressor": (NUM_JOINTS, vertices),
        "posedirs": (_POSE_DIRS, 3 * vertices),
        "parents": (NUM_JOINTS,),
        "lbs_weights": (vertices, NUM_JOINTS),
        "left_hand_mean": (45,),
        "right_hand_mean": (45,),
        "pose_mean": (3 * NUM_JOINTS,),
        "lmk_faces_idx": (51,),
        "lmk_bary_coords": (51, 3),
        "dynamic_lmk_faces_idx": (79, 17),
        "dynamic_lmk_bary_coords": (79, 17, 3),
        "neck_kin_chain": (5,),
        "expr_dirs": (vertices, 3, _EXPRESSIONS),
        "vertex_joint_selector.extra_joints_idxs": (21,),
    }
    return {LAYER + name: shape for name, shape in shapes.items()}


def check_shapes(
    found: Shapes, expected: Shapes, where: str, optional: tuple[str, ...] = ()
) -> None:
    """Compares a checkpoint's tensors with those of the network.

    Args:
        found: shapes in the file.
        expected: shapes of the network.
        where: the file, for the sentence.
        optional: prefixes of tensors that may be missing.

    Raises:
        DamagedFileError: a tensor is missing, extra or misshapen; the sentence names it.
    """
    found = {name: shape for name, shape in found.items() if not name.startswith(IGNORED)}
    missing = [name for name in expected if name not in found and not name.startswith(optional)]
    extra = [name for name in found if name not in expected]
    wrong = [
        f"{name} is {_text(found[name])} instead of {_text(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    faults = [("lacks ", missing), ("has the unknown ", extra), ("is misshapen: ", wrong)]
    parts = [word + _list(names) for word, names in faults if names]
    if parts:
        raise DamagedFileError(
            f"{where} is not a checkpoint of this network: it {' and '.join(parts)}; "
            "use the published model.safetensors."
        )


def _list(names: Iterable[str]) -> str:
    names = list(names)
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)


_LOG = logging.getLogger(__name__)
_SAME_POINT = 0.5  # share of points whose stored attributes must be those of the nearest vertex


class Checkpoint:
    """The tensors of one model.safetensors, read lazily.

    Args:
        path: the file, or the folder that holds it.

    Raises:
        CrowdGaussianError: the file is missing, cut off, or no safetensors file.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        self.path = path / FILE if path.is_dir() else path
        if not self.path.is_file():
            raise MissingFileError(
                f"There is no {FILE} at {path}; fetch it with "
                "`crowdgaussian weights fetch lhm-500m-hf` or give its folder."
            )
        try:
            self._file = safe_open(self.path, "pt")
            self.shapes = {
                name: tuple(self._file.get_slice(name).get_shape()) for name in self._file.keys()
            }  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise DamagedFileError(
                f"{self.path} is cut off or no safetensors file; fetch it again."
            ) from error

    def __getitem__(self, name: str) -> Tensor:
        """One tensor, floating numbers as float32."""
        tensor = self._file.get_tensor(name)
        return tensor.float() if tensor.is_floating_point() else tensor

    def config(self) -> LormConfig:
        """The sizes of the network, after checking that every tensor is there.

        Raises:
            DamagedFileError: a tensor is missing, extra or misshapen; the sentence names it.
        """
        return self.checked(())

    def checked(self, optional: tuple[str, ...]) -> LormConfig:
        """As config; tensors whose names start with an optional prefix may be missing."""
        config = LormConfig.from_shapes(self.shapes)
        vertices = self.shapes.get(LAYER + "v_template", (10475, 3))[0]
        faces = self.shapes.get(LAYER + "faces_tensor", (20908, 3))[0]
        expected = (
            network_shapes(config) | point_shapes(config) | body_shapes(config, vertices, faces)
        )
        check_shapes(self.shapes, expected, str(self.path), optional)
        return config

    def network(self, config: LormConfig) -> dict[str, Tensor]:
        """The network's own tensors."""
        return {name: self[name] for name in network_shapes(config)}

    def mesh(self) -> TemplateMesh:
        """The checkpoint's own SMPL-X.

        Raises:
            DamagedFileError: its joints have other parents than ours.
        """
        if tuple(self[LAYER + "parents"].tolist())[1:] != PARENTS[1:]:
            raise DamagedFileError(f"{self.path} has another skeleton than SMPL-X.")
        vertices, directions = self[LAYER + "v_template"], self[LAYER + "shapedirs"]
        regressor = self[LAYER + "J_regressor"]
        return TemplateMesh(
            vertices=vertices,
            faces=self[LAYER + "faces_tensor"].long(),
            shape_dirs=directions,
            skin_weights=self[LAYER + "lbs_weights"],
            joints=regressor @ vertices,
            joint_dirs=torch.einsum("jv,vcs->jcs", regressor, directions),
        )

    def points(self, mesh: TemplateMesh, file: Path | None) -> QueryPoints:
        """The query points: those of the file with the stored attributes, or else new ones.

        New points are three quarters body and one quarter head, drawn evenly by area, with the
        attributes of their nearest vertices; which vertices keep their orientation and which are
        head is read off the attributes stored for the published points.

        Raises:
            CrowdGaussianError: the file does not hold this checkpoint's points.
        """
        count, _, betas = self.shapes[BODY + "shape_dirs"]
        if mesh.shape_dirs.shape[2] != betas:
            raise InputError(
                f"The body model has {mesh.shape_dirs.shape[2]} shape directions where the "
                f"checkpoint has {betas}; it needs SMPL-X."
            )
        weights, directions = self[BODY + "skinning_weight"], self[BODY + "shape_dirs"]
        constrained = self[BODY + "is_constrain_body"].bool()
        if file is None:
            owner = _owners(mesh, weights, directions)
            return sample_points(mesh, count, *_vertex_flags(mesh, owner, constrained.numpy()))
        places = read_points(file)
        if len(places) != count:
            raise DamagedFileError(
                f"{file} holds {len(places)} points where this checkpoint has {count}."
            )
        near = points_at(mesh, places)
        same = (near.skin_weights - weights).abs().amax(dim=1) < 1e-2
        if same.float().mean() < _SAME_POINT:
            raise DamagedFileError(
                f"The points in {file} are not those this checkpoint was trained with; use the "
                "published file, or none."
            )
        upper = self[BODY + "is_upper_body"].bool()
        return QueryPoints(places, weights, directions, upper, constrained, mesh)


def load_lorm(
    source: str | Path,
    sapiens: str | Path | None = None,
    points: str | Path | None = None,
    adapters: str | Path | None = None,
    body: BodyModel | None = None,
    device: str | torch.device = "cpu",
) -> LormModel:
    """A model ready for inference (eval mode; only adapters would be trained).

    Args:
        source: a folder with model.safetensors, that file, or a Hugging Face repository such as
            "3DAIGC/LHM-500M-HF", which is then downloaded.
        sapiens: the TorchScript file of Sapiens-1B; without it images cannot be encoded.
        points: `1_40000.ply` of the published points; looked for beside the checkpoint and among
            the fetched weights when None. Without it points are sampled anew, which a warning in
            the log says.
        adapters: file of save_adapters.
        body: SMPL-X to use instead of the checkpoint's own copy, which may then be missing.
        device: where the model goes.

    Raises:
        CrowdGaussianError: anything is missing or does not fit; one sentence says what.
    """
    checkpoint = Checkpoint(_resolve(source))
    config = checkpoint.checked(() if body is None else (LAYER,))
    mesh = checkpoint.mesh() if body is None else TemplateMesh.from_body(body)
    file = Path(points) if points else points_file(checkpoint.path, config.num_points)
    if file is None:
        _LOG.warning(
            "1_%d.ply is not there: the network's points are sampled anew, which its "
            "published code warns against; results may be a little worse.",
            config.num_points,
        )
    encoder = None if sapiens is None else SapiensEncoder(sapiens)
    with torch.device("cpu"):
        query = checkpoint.points(mesh, file)
    with torch.device("meta"):
        model = LormModel(config, query)
    model.load_state_dict(checkpoint.network(config), strict=True, assign=True)
    model.body_encoder = encoder
    model = model.eval().requires_grad_(False)
    if adapters is not None:
        load_adapters(model, adapters)
    return model.to(device)


def load_configured(config: LormStageConfig, device: torch.device) -> LormModel:
    """The network of these settings; the same files give the same object, as for a worker's jobs.

    Raises:
        CrowdGaussianError: a file is missing or damaged.
    """
    return _loaded(
        tuple(used_files(config)), *model_files(config), config.adapters or None, str(device)
    )


@lru_cache(maxsize=1)
def _loaded(
    files: tuple[UsedFile, ...],
    network: Path,
    sapiens: Path,
    points: Path | None,
    adapters: str | None,
    device: str,
) -> LormModel:
    """files: with their times of change, so that a changed file is read again."""
    return load_lorm(network, sapiens=sapiens, points=points, adapters=adapters, device=device)


def read_points(path: Path) -> Tensor:
    """Positions of a PLY point cloud.  # [N, 3] float32

    Raises:
        CrowdGaussianError: the file is missing, damaged, or no PLY with x, y and z.
    """
    vertex = read_vertices(path)
    if not set("xyz") <= set(vertex.dtype.names or ()):
        raise DamagedFileError(f"{path} holds no points: its vertices have no x, y and z.")
    places = np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(np.float32)
    if not np.isfinite(places).all():
        raise DamagedFileError(f"{path} holds coordinates that are not numbers.")
    return torch.from_numpy(places)


def _resolve(source: str | Path) -> Path:
    path = Path(source)
    parts = str(source).split("/")
    if path.exists() or isinstance(source, Path) or len(parts) != 2 or not all(parts):
        return path
    return fetch_from_hub(str(source), FILE)


def _owners(mesh: TemplateMesh, weights: Tensor, directions: Tensor) -> np.ndarray:
    """The vertex whose attributes each published point carries.  # [N]"""

    def rows(directions: Tensor, weights: Tensor) -> np.ndarray:
        return torch.cat([directions.flatten(1), weights * 0.1], dim=1).numpy()

    tree = cKDTree(rows(mesh.shape_dirs, mesh.skin_weights))
    return tree.query(rows(directions, weights), workers=1)[1]


def _vertex_flags(
    mesh: TemplateMesh, owner: np.ndarray, constrained: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which vertices are head, and which keep their orientation.  # [V] bool, [V] bool"""
    count = len(mesh.vertices)
    split = int(0.75 * len(owner))
    body_hits = np.bincount(owner[:split], minlength=count)
    head_hits = np.bincount(owner[split:], minlength=count)
    unseen = body_hits + head_hits == 0
    head = np.where(unseen, is_head(mesh.parts), head_hits > body_hits)
    return head, np.bincount(owner[constrained], minlength=count) > 0
