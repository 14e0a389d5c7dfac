# SPDX-License-Identifier: Apache-2.0
"""Which tensors an LHM checkpoint consists of, and naming those that are wrong."""

from collections.abc import Iterable

import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.skeleton import NUM_JOINTS

from .config import LormConfig, Shapes
from .network import LormNetwork

BODY = "renderer.smplx_model."
LAYER = BODY + "smplx_layer."
# Never read, and not missed: a face recogniser used in training, image encoders that have files of
# their own, and a grid of skin weights (0.8 GB) that the published code computes but does not use.
IGNORED = ("id_face_net.", "fine_encoder.", "faceESRGAN.", BODY + "voxel_")
_FLAGS = ("rhand", "lhand", "face", "face_expr", "lower_body", "upper_body", "constrain_body",
          "cavity")
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
        "shapedirs": (vertices, 3, config.num_betas), "faces_tensor": (faces, 3),
        "v_template": (vertices, 3), "J_regressor": (NUM_JOINTS, vertices),
        "posedirs": (_POSE_DIRS, 3 * vertices), "parents": (NUM_JOINTS,),
        "lbs_weights": (vertices, NUM_JOINTS), "left_hand_mean": (45,), "right_hand_mean": (45,),
        "pose_mean": (3 * NUM_JOINTS,), "lmk_faces_idx": (51,), "lmk_bary_coords": (51, 3),
        "dynamic_lmk_faces_idx": (79, 17), "dynamic_lmk_bary_coords": (79, 17, 3),
        "neck_kin_chain": (5,), "expr_dirs": (vertices, 3, _EXPRESSIONS),
        "vertex_joint_selector.extra_joints_idxs": (21,),
    }
    return {LAYER + name: shape for name, shape in shapes.items()}


def check_shapes(found: Shapes, expected: Shapes, where: str,
                 optional: tuple[str, ...] = ()) -> None:
    """Compares a checkpoint's tensors with those of the network.

    Args:
        found: shapes in the file.
        expected: shapes of the network.
        where: the file, for the sentence.
        optional: prefixes of tensors that may be missing.

    Raises:
        CrowdGaussianError: a tensor is missing, extra or misshapen; the sentence names it.
    """
    found = {name: shape for name, shape in found.items() if not name.startswith(IGNORED)}
    missing = [name for name in expected if name not in found and not name.startswith(optional)]
    extra = [name for name in found if name not in expected]
    wrong = [f"{name} is {_text(found[name])} instead of {_text(shape)}"
             for name, shape in expected.items()
             if name in found and tuple(found[name]) != tuple(shape)]
    faults = [("lacks ", missing), ("has the unknown ", extra), ("is misshapen: ", wrong)]
    parts = [word + _list(names) for word, names in faults if names]
    if parts:
        raise CrowdGaussianError(
            f"{where} is not a checkpoint of this network: it {' and '.join(parts)}; "
            "use the published model.safetensors."
        )


def _list(names: Iterable[str]) -> str:
    names = list(names)
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)
