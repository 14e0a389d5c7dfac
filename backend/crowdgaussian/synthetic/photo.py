# SPDX-License-Identifier: Apache-2.0
"""The photo of a training scene, with the people and masks that stages 1 and 2 would find in it.

So a stage-1 avatar can be built of people whose looks from everywhere are known.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Avatar, BodyParams, Gaussians
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, PARENTS
from crowdgaussian_shared.geometry.skinning import pose_avatar
from crowdgaussian_shared.geometry.skinning import pose_body as pose_avatar_body
from scipy.optimize import linear_sum_assignment

from ..avatar.types import AvatarBuilder
from ..body import BodyModel
from ..body.model import PosedBody, pose_body
from ..core.landmarks import ARMS, LEGS, Landmark
from ..core.mesh import unit, vertex_normals
from ..core.progress import silent
from ..people.types import Crowd, PeopleEstimator, person_from_parameters
from ..segment.types import CrowdView, PersonMask, Segmenter
from ..splat.cameras import Cameras
from ..splat.normals import render_mesh_depth, z_buffer
from .degradations import degrade, draw_chain
from .dressed import Dressed, colours_of
from .paint import Paint, Spots
from .people import everyday_pose, render_rgba
from .scenes import MARGIN, CrowdScene, PlacedActor, clean_gaussians, face_light, moved_body

_FOV = 0.7  # radians, of a usual lens, before the camera is framed
_AWAY = 2.2  # times half the crowd's extent that the lens would need
_ELEVATIONS = 0.02, 0.14  # radians above the crowd's middle
_WALL, _FLOOR = (0.35, 0.85), (0.25, 0.6)  # sRGB of what is behind


def scene_photo(scene: CrowdScene, rng: np.random.Generator, size: int = 640) -> CrowdView:
    """A photo of everybody from about eye height, before a plain wall and floor.

    With it come the true bodies, in the scene's own frame, in the order of scene.people.

    Args:
        scene: the people.
        rng: from which side, and what is behind.
        size: pixels a side.
    """
    camera = _camera(scene, rng, size)
    meshes = [each.points(each.actor.vertices).astype(np.float32) for each in scene.people]
    colours = [face_light(each, scene.light, scene.direct) for each in scene.people]
    starts = np.cumsum([0, *(len(mesh) for mesh in meshes)])
    faces = [each.actor.faces + start for each, start in zip(scene.people, starts)]
    seen = render_rgba(
        np.concatenate(meshes), np.concatenate(faces), np.concatenate(colours), camera
    )
    alpha = seen[..., 3:] / 255
    photo = seen[..., :3] * alpha + _behind(camera, rng) * (1 - alpha)
    masks = _masks(meshes, [each.actor.faces for each in scene.people], camera)
    people = []
    for placed, mask in zip(scene.people, masks):
        people.append(person_from_parameters(placed_body(placed), mask.visible))
    crowd = Crowd(tuple(people), camera, "option", (True,) * len(people))
    return CrowdView(photo.round().astype(np.uint8), crowd, masks)


def placed_body(placed: PlacedActor) -> BodyParams:
    """The parameters of an actor's body where it stands in the scene."""
    actor = placed.actor
    return moved_body(actor.body, actor.params, placed.rotation, placed.offset)


def _camera(scene: CrowdScene, rng: np.random.Generator, size: int) -> Camera:
    points = np.concatenate([each.points(each.actor.vertices) for each in scene.people])
    low, high = points.min(0), points.max(0)
    away = _AWAY * 0.5 * float(np.linalg.norm(high - low)) / np.tan(_FOV / 2)
    ring = Cameras.orbit((low + high) / 2, away, 36, rng.uniform(*_ELEVATIONS), _FOV, size)
    one = ring[int(rng.integers(len(ring)))]
    return one.framed(torch.from_numpy(points).float(), MARGIN).to_cameras()[0]


def _behind(camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """A wall that gets darker to one side, and the floor below.  # [H, W, 3] 0..255"""
    wall, floor = (
        rng.uniform(*_WALL) + rng.normal(0, 0.05, 3),
        rng.uniform(*_FLOOR) + rng.normal(0, 0.05, 3),
    )
    shade = np.linspace(1, rng.uniform(0.7, 1), camera.width)[None, :, None]
    edge = int(camera.height * rng.uniform(0.6, 0.85))
    rows = np.arange(camera.height)[:, None, None]
    return 255 * (np.where(rows < edge, wall, floor) * shade).clip(0, 1)


def _masks(meshes: list[np.ndarray], faces: list[np.ndarray], camera: Camera) -> list[PersonMask]:
    """What is seen of each, and what would be without the others."""
    depths = np.stack(
        [np.asarray(render_mesh_depth(mesh, part, camera)[0]) for mesh, part in zip(meshes, faces)]
    )
    nearest = depths.argmin(0)
    masks = []
    for index, depth in enumerate(depths):
        amodal = np.isfinite(depth)
        visible = amodal & (nearest == index)
        masks.append(PersonMask(visible, amodal, 1 - visible.sum() / max(1, amodal.sum())))
    return masks


# What refinement starts from: a scene's people damaged, or rebuilt from a photo by stage 1

_PHOTOS = 6  # tries for one that shows everybody
_ENOUGH = 0.25  # of everybody is shown: such a photo is taken at once
_LEAST_PX = 150  # of a person; who shows less in every photo is left out of the scene


@dataclass(frozen=True)
class CoarseCrowd:
    """A scene's people as they are known before refinement."""

    gaussians: list[Gaussians]  # of each, in the scene
    bodies: np.ndarray  # [B, V, 3] metres, as the reconstruction has them
    faces: np.ndarray  # [F, 3] of a body
    chain: tuple[str, ...] = ()  # the damage


def clean_people(scene: CrowdScene, rng: np.random.Generator, points: int) -> list[Gaussians]:
    """Dense Gaussians of everybody."""
    return [
        clean_gaussians(each, face_light(each, scene.light, scene.direct), points, rng)
        for each in scene.people
    ]


def damaged(scene: CrowdScene, rng: np.random.Generator, points: int) -> CoarseCrowd:
    """What a chain of damage leaves of everybody's clean Gaussians."""
    clean = clean_people(scene, rng, points)
    chain = draw_chain(rng)
    bodies = np.stack([each.points(each.actor.body_vertices) for each in scene.people])
    faces = scene.people[0].actor.body.faces.numpy()
    return CoarseCrowd(degrade(clean, scene.people, chain, rng), bodies, faces, chain)


def rebuilt(
    scene: CrowdScene, builder: AvatarBuilder, rng: np.random.Generator, size: int
) -> tuple[CrowdScene, CoarseCrowd]:
    """Everybody reconstructed from one photo of the scene, as the pipeline does it.

    Args:
        scene: the people.
        builder: the appearance stage.
        rng: which photo.
        size: of the photo, pixels.

    Returns:
        The scene without those whom no photo shows, and the others' reconstructions.

    Raises:
        CrowdGaussianError: the builder refuses a person.
    """
    photo, shown = _photo(scene, rng, size)
    indices = [int(index) for index in np.flatnonzero(shown)]
    avatars = [outcome.result() for outcome in builder.reconstruct(photo, indices, silent)]
    kept = replace(scene, people=tuple(scene.people[index] for index in indices))
    return kept, _crowd(avatars)


def _crowd(avatars: list[Avatar]) -> CoarseCrowd:
    return CoarseCrowd(
        [pose_avatar(avatar) for avatar in avatars],
        np.stack([pose_avatar_body(avatar) for avatar in avatars]),
        avatars[0].body.faces,
    )


# The same with the bodies and masks that the pipeline finds in the photo, in place of the true ones

_SAME_PERSON = 0.1  # of their height in the photo, by which a body's joints are off in the mean at
# most; two people who are seen beside each other are farther
_LIMBS = [JOINT_INDEX[Landmark(i).joint] for i in (*ARMS, *LEGS)]  # shoulders to ankles


@dataclass(frozen=True)
class WholePipeline:
    """The stages that turn a photo into avatars; nothing is known to them but the photo."""

    people: PeopleEstimator
    segment: Segmenter
    avatar: AvatarBuilder


def estimated(
    scene: CrowdScene, pipeline: WholePipeline, rng: np.random.Generator, size: int
) -> tuple[CrowdScene, CoarseCrowd]:
    """Everybody found in one photo of the scene and reconstructed from it.

    Whoever is found takes the true person's pose, place and size (`as_posed`): no refiner can tell
    from a view where a limb should be, and one that is asked to learns to blur. What estimated
    bodies and masks do to the looks stays.

    Args:
        scene: the people.
        pipeline: that finds and rebuilds them.
        rng: which photo.
        size: of the photo, pixels.

    Returns:
        The scene without those who are missed, and the others' reconstructions.

    Raises:
        InputError: nobody is found where somebody is.
        CrowdGaussianError: a stage refuses the photo or a person.
    """
    photo, _ = _photo(scene, rng, size)
    focal = float(photo.crowd.camera.K[0, 0])  # as a file says it
    crowd = pipeline.people.estimate(photo.photo, focal, silent)
    body = scene.people[0].actor.body
    pairs = same_people(body, photo.crowd, crowd)
    if not pairs:
        raise InputError("Nobody is found in the photo of a scene; make it of fewer people.")
    masks = pipeline.segment.segment(photo.photo, crowd, silent)
    view = CrowdView(photo.photo, crowd, masks)
    outcomes = pipeline.avatar.reconstruct(view, [found for _, found in pairs], silent)
    true = [pose_body(body, placed_body(scene.people[index])) for index, _ in pairs]
    avatars = [as_posed(outcome.result(), posed) for outcome, posed in zip(outcomes, true)]
    kept = replace(scene, people=tuple(scene.people[index] for index, _ in pairs))
    return kept, _crowd(avatars)


def same_people(body: BodyModel, truth: Crowd, found: Crowd) -> list[tuple[int, int]]:
    """Who is who in one photo, by limbs: index of the true person, of the found one.

    A body that is turned back to front is nobody's: its colours would be on the wrong side.
    """
    if not found.people:
        return []
    wanted, given = _limbs(body, truth), _limbs(body, found)
    tall = np.maximum(np.ptp(wanted, axis=1).max(1), 1.0)  # pixels
    apart = np.linalg.norm(wanted[:, None] - given[None], axis=3).mean(2) / tall[:, None]
    apart = np.where(_fronts(truth) @ _fronts(found).T > 0, apart, 1.0)
    pairs = zip(*linear_sum_assignment(np.minimum(apart, 1.0)))
    return [(int(i), int(k)) for i, k in pairs if apart[i, k] < _SAME_PERSON]


def _limbs(body: BodyModel, crowd: Crowd) -> np.ndarray:
    """Shoulders to ankles of everybody in the photo.  # [B, 12, 2] pixels"""
    joints = [body.posed(person.params).joints[_LIMBS] for person in crowd.people]
    return crowd.camera.project(np.concatenate(joints))[0].reshape(len(joints), -1, 2)


def _fronts(crowd: Crowd) -> np.ndarray:
    """Where everybody's hips look, in the camera's frame.  # [B, 3] unit"""
    turns = axis_angle_to_matrix(np.stack([person.params.pose[0] for person in crowd.people]))
    return turns[:, :, 2] @ crowd.camera.rotation.T


def as_posed(avatar: Avatar, posed: PosedBody) -> Avatar:
    """An avatar in the pose and place of a body, and as large, by the lengths of all bones."""
    large = _bones(posed.joints) / _bones(avatar.rest_joints)
    gaussians, rest = avatar.gaussians, (avatar.rest_joints * large).astype(np.float32)
    transl = posed.joints[0] + posed.params.transl - rest[0]
    return replace(
        avatar,
        gaussians=replace(
            gaussians,
            means=(gaussians.means * large).astype(np.float32),
            scales=(gaussians.scales * large).astype(np.float32),
        ),
        rest_joints=rest,
        body=replace(avatar.body, vertices=(avatar.body.vertices * large).astype(np.float32)),
        params=replace(avatar.params, pose=posed.params.pose, transl=transl.astype(np.float32)),
    )


def _bones(rest: np.ndarray) -> float:
    """Length of all bones together, metres."""
    return float(np.linalg.norm(rest[1:] - rest[list(PARENTS[1:])], axis=1).sum())


def _least_share(photo: CrowdView) -> float:
    return min(1 - mask.occlusion for mask in photo.masks)


def _photo(scene: CrowdScene, rng: np.random.Generator, size: int) -> tuple[CrowdView, np.ndarray]:
    """The photo that shows most of whom it shows least, and who is in it.  # [B] bool"""
    best = scene_photo(scene, rng, size)
    for _ in range(_PHOTOS - 1):
        if _least_share(best) >= _ENOUGH:
            break
        photo = scene_photo(scene, rng, size)
        if _least_share(photo) > _least_share(best):
            best = photo
    shown = np.array([mask.visible.sum() >= _LEAST_PX for mask in best.masks])
    if not shown.any():
        raise InputError("Nobody can be made out in the photo of a scene; make it of fewer people.")
    return best, shown


# A portrait: one dressed person before one camera in one light

_FINER = 2  # pixels are averages of so many by so many
PORTRAIT, _LENS = (192, 256), 0.35  # pixels; radians, so that perspective is that of a few metres
_FILLS = 0.9  # of the picture
_FRONTAL, _SWAY = 0.8, 0.6  # share of views from somewhere in front, and how far round, radians
_OVER = -0.08, 0.3  # radians of the camera above the person
_NOISE = 0.015  # most of a photo's, sRGB


@dataclass(frozen=True)
class Light:
    """One direction, the sky and light from all around."""

    towards: np.ndarray  # [3] unit
    direct: float  # share of the light that comes from there
    sky: float  # from above
    tint: np.ndarray  # [3]

    def on(self, normals: np.ndarray) -> np.ndarray:
        """Factor of colours.  # [N, 3] unit -> [N]"""
        ambient = 1 - self.direct - self.sky
        from_there = 0.8 * self.direct * (1 + normals @ self.towards)
        return ambient + from_there + self.sky * (0.5 + 0.5 * normals[:, 1])


def draw_light(rng: np.random.Generator) -> Light:
    """From anywhere, mostly above; in half of all photos from before the person."""
    round_, up = rng.normal(0, 0.9), rng.uniform(0.2, 1.4)
    if rng.random() < 0.5:
        round_ = rng.uniform(-np.pi, np.pi)
    towards = np.array([np.sin(round_) * np.cos(up), np.sin(up), np.cos(round_) * np.cos(up)])
    tint = rng.uniform(0.82, 1.15) * (1 + rng.normal(0, 0.035, 3))
    return Light(towards, rng.uniform(0.05, 0.45), rng.uniform(0, 0.3), tint)


def _framing(vertices: np.ndarray, rng: np.random.Generator) -> Camera:
    """Round somebody who fills the picture."""
    low, high = vertices.min(0), vertices.max(0)
    wide, tall, deep = high - low
    size = max(tall, max(wide, deep) * PORTRAIT[1] / PORTRAIT[0])
    away = 0.5 * size / _FILLS / np.tan(_LENS / 2) + deep / 2
    round_ = rng.normal(0, _SWAY) if rng.random() < _FRONTAL else rng.uniform(-np.pi, np.pi)
    target, up = (low + high) / 2, float(rng.uniform(*_OVER))
    return Cameras.orbit(target, away, 1, up, _LENS, PORTRAIT, round_).to_cameras()[0]


@dataclass(frozen=True)
class Portrait:
    """Somebody in one pose before one camera in one light."""

    camera: Camera
    light: Light
    posed: PosedBody
    vertices: np.ndarray  # [N, 3] of all that is worn
    normals: np.ndarray  # [N, 3]
    mask: np.ndarray  # [H, W] bool
    shown: np.ndarray  # [h, w] bool: the same on a finer grid, of K pixels that show somebody
    spots: dict[int, tuple[np.ndarray, Spots]]  # of these K
    lit: np.ndarray  # [K, 3] factors of their colours


def take_portrait(person: Dressed, body: BodyModel, rng: np.random.Generator) -> Portrait:
    posed = person.stood(body, everyday_pose(rng))
    vertices = person.posed_as(posed)
    camera = _framing(vertices, rng)
    K = camera.K * np.array([[_FINER], [_FINER], [1]])
    finer = Camera(K, camera.viewmat, camera.width * _FINER, camera.height * _FINER)
    _, index, two = z_buffer(vertices, person.faces, finer)
    shown = index >= 0
    face, bary = index[shown], np.column_stack([two[shown], 1 - two[shown].sum(1)])
    normals, corners = vertex_normals(vertices, person.faces), person.faces[face]
    own = unit(np.einsum("nk,nkc->nc", bary, normals[corners]))
    own = turned_to(own, camera.eye - np.einsum("nk,nkc->nc", bary, vertices[corners]))
    light = draw_light(rng)
    mask = shown.reshape(camera.height, _FINER, camera.width, _FINER).mean((1, 3)) > 0.5
    lit, spots = light.on(own)[:, None] * light.tint, person.spots(face, bary)
    return Portrait(camera, light, posed, vertices, normals, mask, shown, spots, lit)


def draw_portrait(
    photo: Portrait, paints: tuple[Paint, ...], rng: np.random.Generator
) -> np.ndarray:
    """What the photo shows, on no ground.  # [H, W, 3] sRGB 0..1"""
    layers = np.zeros((*photo.shown.shape, 4), np.float32)
    layers[photo.shown, :3] = colours_of(photo.spots, paints) * photo.lit
    layers[photo.shown, 3] = 1
    size = (photo.camera.width, photo.camera.height)
    small = np.asarray(cv2.resize(layers, size, interpolation=cv2.INTER_AREA), np.float64)
    picture = small[..., :3] / np.maximum(small[..., 3:], 1e-3)
    noise = rng.uniform(0, _NOISE) * rng.standard_normal(picture.shape)
    return (picture + noise).clip(0, 1)


def turned_to(normals: np.ndarray, to_eye: np.ndarray) -> np.ndarray:
    """Normals, or where they look away their reflection that does not.  # [N, 3]"""
    sight = unit(to_eye)
    away = np.minimum((normals * sight).sum(1, keepdims=True), 0)
    return unit(normals - 2 * away * sight)
