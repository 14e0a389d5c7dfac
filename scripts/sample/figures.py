# SPDX-License-Identifier: Apache-2.0
"""Turn a character into posed geometry and textures that the renderer can read."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from crowdgaussian.body import BodyModel
from crowdgaussian.core.mesh import vertex_normals
from crowdgaussian_shared.geometry.axes import scene_to_blender
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from PIL import Image

from . import footwear, hair, tailor
from .cast import Character
from .paint_cloth import paint_cloth
from .paint_skin import paint_skin
from .posing import Puppet
from .regions import Landmarks
from .tailor import Cut, Piece, PosedBody

TUCK = 0.06  # metres of skin kept under a hem, because cloth slides


@dataclass(frozen=True)
class Parameters:
    """The ground truth of one person: arguments of the body model."""

    betas: np.ndarray  # [B]
    pose: np.ndarray  # [55, 3]
    transl: np.ndarray  # [3]
    scale: float = 1.0


def betas_of(model: BodyModel, who: Character) -> torch.Tensor:
    """Betas of a described person, the height slider searched for the stature."""
    low, high = -0.5, 1.5
    for _ in range(30):
        middle = (low + high) / 2
        betas = model.betas_from(who.sex, who.age, who.weight, middle, who.muscle)
        if float(model.stature(betas[None])[0]) < who.stature:
            low = middle
        else:
            high = middle
    return betas


def run_body(model: BodyModel, parameters: Parameters):
    """Rest vertices, rest joints and the posed output as float64 numpy arrays."""
    tensors = [
        torch.as_tensor(a, dtype=torch.float32)[None]
        for a in (parameters.betas, parameters.pose, parameters.transl)
    ]
    scale = torch.tensor([parameters.scale])
    rest, joints = model.rest(tensors[0], scale)
    output = model(*tensors, scale)
    return tuple(
        t[0].double().numpy()
        for t in (rest, joints, output.vertices, output.joints, output.transforms)
    )


def posed_body(model: BodyModel, parameters: Parameters) -> PosedBody:
    """The body in its place."""
    rest, joints, posed, _, transforms = run_body(model, parameters)
    marks = Landmarks(joints, float(rest[:, 1].min()))
    return PosedBody(
        rest, posed, model.faces.numpy(), model.skin_weights.double().numpy(), transforms, marks
    )


def stand(model: BodyModel, who: Character) -> tuple[Parameters, PosedBody]:
    """Shape, pose and place a person so that the lowest point of the shoes is on the floor."""
    betas = betas_of(model, who)
    scale = torch.tensor([who.stature / float(model.stature(betas[None])[0])])
    rest, joints = (t[0].double().numpy() for t in model.rest(betas[None], scale))
    puppet = Puppet(joints, rest[:, 1].min())
    who.pose(puppet)
    pose = puppet.pose(who.facing)
    angle = np.radians(who.facing)
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    pelvis = turn @ puppet.where("pelvis") + [who.place[0], 0.0, who.place[1]]
    values = Parameters(betas.double().numpy(), pose, pelvis - joints[0], float(scale[0]))
    body = posed_body(model, values)
    low = min(
        footwear.shoe(body, side, {}, who.shoe_height).vertices[:, 1].min()
        for side in ("left", "right")
    )
    values = Parameters(values.betas, values.pose, values.transl - [0.0, low, 0.0], values.scale)
    return values, posed_body(model, values)


def dress(body: PosedBody, who: Character) -> list[Piece]:
    """All clothes and shoes, inside first; later garments rest on earlier ones."""
    fine = body.finer()
    points, normals = fine.posed, vertex_normals(fine.posed, fine.faces)
    pieces = [footwear.shoe(body, side, who.shoes, who.shoe_height) for side in ("left", "right")]
    for garment in who.garments:
        sew = tailor.sew if isinstance(garment, Cut) else tailor.sew_skirt
        piece = sew(garment, fine, (points, normals))
        pieces.append(tailor.finished(piece))
        points = np.concatenate([points, piece.vertices])
        normals = np.concatenate([normals, vertex_normals(piece.vertices, piece.faces)])
    return pieces


def bare_faces(model: BodyModel, body: PosedBody, who: Character) -> np.ndarray:
    """Faces of the body that clothes do not cover, without eyeballs and shoes' insides.  # [F]"""
    covered = np.zeros(len(body.rest), bool)
    for garment in who.garments:
        if isinstance(garment, Cut):
            covered |= garment.region.field(body.rest, body.marks) > TUCK
    ankle = body.marks["left_ankle"][1]
    covered |= body.rest[:, 1] < ankle + who.shoe_height - 0.025
    covered |= model.eyes.numpy()
    return ~covered[model.faces.numpy()].all(axis=1)


def _eyeballs(model: BodyModel, body: PosedBody, who: Character, lens: np.ndarray):
    """Two fine spheres with iris and pupil that look ahead, or at the camera if it is near that.

    Returns vertices, faces and linear colours [N, 4].
    """
    rows, columns = 28, 40
    polar = np.linspace(0, np.pi * 0.62, rows)[:, None]
    around = 2 * np.pi * np.arange(columns)[None] / columns
    ball = np.stack(
        [
            np.sin(polar) * np.cos(around),
            np.sin(polar) * np.sin(around),
            np.cos(polar) * np.ones_like(around),
        ],
        -1,
    ).reshape(-1, 3)
    a = (np.arange(rows - 1)[:, None] * columns + np.arange(columns)).ravel()
    b = (np.arange(rows - 1)[:, None] * columns + (np.arange(columns) + 1) % columns).ravel()
    faces = np.concatenate(
        [np.stack([a, a + columns, b], 1), np.stack([b, a + columns, b + columns], 1)]
    )
    degrees = np.degrees(np.repeat(polar.ravel(), columns))
    colour = _iris(degrees, np.tile(around.ravel(), rows), np.array(who.iris))
    ahead = body.transforms[JOINT_INDEX["head"], :3, :3] @ np.array([0.0, 0.0, 1.0])
    vertices, joints = [], model.parts.numpy()
    for name in ("left_eye_smplhf", "right_eye_smplhf"):
        own = body.posed[(joints == JOINT_INDEX[name]) & model.eyes.numpy()]
        centre = (own.max(axis=0) + own.min(axis=0)) / 2
        radius = np.median(np.linalg.norm(own - centre, axis=1))
        gaze = lens - centre
        gaze /= np.linalg.norm(gaze)
        gaze = gaze if gaze @ ahead > 0.85 else ahead
        side = np.cross([0.0, 1.0, 0.0], gaze)
        side /= np.linalg.norm(side)
        vertices.append(centre + radius * ball @ np.stack([side, np.cross(gaze, side), gaze]))
    return (
        np.concatenate(vertices),
        np.concatenate([faces, faces + len(ball)]),
        np.concatenate([colour, colour]),
    )


def _iris(degrees: np.ndarray, around: np.ndarray, iris: np.ndarray) -> np.ndarray:
    """Pupil, iris with rays and a dark rim, sclera: linear RGBA by angle from the gaze."""
    rays = 1 + 0.35 * np.sin(around * 17) * np.sin(around * 29 + 1)
    colour = np.where((degrees < 11)[:, None], 0.004, (iris**2.2)[None] * rays[:, None])
    colour = np.where(((degrees > 24.5) & (degrees < 28.5))[:, None], colour * 0.35, colour)
    white = np.array([0.62, 0.58, 0.55]) * np.clip(1.15 - degrees / 160, 0.5, 1)[:, None]
    colour = np.where((degrees >= 28.5)[:, None], white, colour)
    return np.column_stack([colour, np.ones(len(colour))])


def write_figure(
    model: BodyModel, who: Character, seed: int, camera: Camera, folder: Path
) -> Parameters:
    """Build one person and write figure.json, arrays.npz and textures for the renderer."""
    folder.mkdir(parents=True, exist_ok=True)
    values, body = stand(model, who)
    head = hair.HeadFrame.of(body)
    scalp = hair.scalp_field(body.rest, head, who.hair[0]) if who.hair else -np.ones(len(body.rest))
    on_head = body.weights[:, JOINT_INDEX["head"]] > 0.5
    keep = bare_faces(model, body, who)
    uv = model.uv.numpy()[model.uv_faces.numpy()]
    lens = np.linalg.inv(camera.viewmat)[:3, 3]
    eyes = _eyeballs(model, body, who, lens)
    arrays = {
        "body_vertices": scene_to_blender(body.posed),
        "body_faces": body.faces[keep],
        "body_uv": uv[keep],
        "body_scalp": np.where(on_head, np.clip(scalp * 9, 0, 0.92), 0),
        "eyes_vertices": scene_to_blender(eyes[0]),
        "eyes_faces": eyes[1],
        "eyes_colour": eyes[2],
    }
    pieces = dress(body, who)
    for index, piece in enumerate(pieces):
        arrays |= {
            f"{piece.name}_vertices": scene_to_blender(piece.vertices),
            f"{piece.name}_faces": piece.faces,
            f"{piece.name}_uv": piece.uv,
        }
        tile = paint_cloth(piece.look["pattern"], piece.look["colours"], seed * 10 + index)
        Image.fromarray(tile).save(folder / f"{piece.name}.png", compress_level=1)
    for index, style in enumerate(who.hair):
        arrays[f"hair{index}"] = scene_to_blender(hair.grow(body, style, seed + index))
    Image.fromarray(paint_skin(who.face, seed)).save(folder / "skin.png", compress_level=1)
    np.savez(folder / "arrays.npz", **arrays)
    (folder / "figure.json").write_text(json.dumps(_figure(who, pieces)))
    return values


def _figure(who: Character, pieces: list[Piece]) -> dict:
    """What the renderer is told beside the arrays."""
    return {
        "pieces": [{"name": p.name, "look": p.look} for p in pieces],
        "hair": [
            {"name": f"hair{index}", "radius": style.radius, "colour": style.colour}
            for index, style in enumerate(who.hair)
        ],
        "scalp_colour": who.hair[0].colour if who.hair else who.face.skin,
    }
