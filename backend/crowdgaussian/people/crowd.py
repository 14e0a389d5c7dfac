# SPDX-License-Identifier: Apache-2.0
"""The end of every people stage: fitted bodies on one floor become the crowd, or come into one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.axes import OPENCV_FROM_SCENE, camera_at_origin
from crowdgaussian_shared.geometry.camera import Camera, pixel_rays, turn_to_ray
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS
from crowdgaussian_shared.scene.schema import FocalSource
from torch import Tensor

from ..body.model import BodyModel
from ..core.landmarks import HIPS, TORSO
from ..splat.cameras import project
from ..splat.normals import render_mesh_depth
from .detect.detections import Detection, detection_flags, visible_box
from .fit.body_points import BodyPoints
from .fit.convert import StartBodies
from .fit.fitter import Bodies, Fitter
from .fit.schedules import fit_hands
from .fit.targets import Targets, make_targets
from .ground.placement import put_on_ground
from .types import Crowd, Keypoints, PeopleConfig, Person

_FAR = 0.1  # of the body's height: a landmark further off counts as this far in reprojection_px


def make_people(
    fitter: Fitter,
    bodies: Bodies,
    found: list[Detection],
    targets: Targets,
    flags: Sequence[tuple[str, ...]],
) -> tuple[Person, ...]:
    """Persons in the frame of the fitter's camera, in the order of found."""
    errors = fitter.pixel_errors(bodies, targets, _FAR)
    rest = fitter.points.rest_joints(bodies.betas, bodies.scale)[:, 0]
    body_pose, hands = fit_hands(fitter, bodies, [one.hands for one in found])
    people = []
    for index, detection in enumerate(found):
        pose = np.concatenate([np.zeros((1, 3)), body_pose[index].numpy(), hands[index]])
        pose[0] = matrix_to_axis_angle(bodies.orientation[index].double().numpy())
        people.append(
            Person(
                params=BodyParams(
                    bodies.betas[index].numpy().copy(),
                    pose.astype(np.float32),
                    (bodies.pelvis[index] - rest[index]).numpy(),
                    float(bodies.scale[index]),
                ),
                keypoints=detection.keypoints,
                box=detection.box,
                score=detection.score,
                person_mask=detection.person_mask,
                flags=tuple(flags[index]),
                reprojection_px=float(errors[index]),
            )
        )
    return tuple(people)


@contextmanager
def single_thread() -> Iterator[None]:
    """Tensors this small only lose time to threads that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Fitted:
    """Everybody fitted alone, in the scene axes of a camera at the origin."""

    bodies: Bodies
    found: list[Detection]
    targets: Targets


def crowd_on_floor(
    alone: Fitter,
    fitted: Fitted,
    K: np.ndarray,
    shape: tuple[int, int],
    config: PeopleConfig,
    focal_source: FocalSource,
) -> Crowd:
    """Finds the floor, settles everybody on it and hands them on.

    Args:
        alone: the fitter with the camera at the origin.
        fitted: the bodies in that frame, and what the photo says about them.
        K: [3, 3] of the photo.
        shape: height and width of the photo.
        config: how many steps.
        focal_source: where K comes from; "default" lets people who stand decide its focal length.
    """
    placed = put_on_ground(
        alone,
        fitted.bodies,
        fitted.found,
        fitted.targets,
        shape,
        config,
        focal_known=focal_source != "default",
    )
    if not np.allclose(placed.K, K, rtol=1e-5):  # the fitter keeps float32
        K, focal_source = placed.K.astype(np.float64), "people"
    fitter = Fitter(alone.body, alone.points, K, placed.viewmat)
    flags = [one.flags + more for one, more in zip(fitted.found, placed.flags)]
    people = make_people(fitter, placed.bodies, fitted.found, fitted.targets, flags)
    return Crowd(
        people,
        Camera(K, placed.viewmat, shape[1], shape[0]),
        focal_source,
        tuple(bool(ground) for ground in placed.on_ground),
        placed.certainty,
    )


# Soft masks of fitted bodies, for estimators whose networks give no masks of their own

_SOFT = 0.012  # of the body's height: blur of the edge, for clothes stand off the body
_NEARER = 0.1  # metres by which another body must be nearer to hide a pixel


def with_body_masks(crowd: Crowd, body: BodyModel) -> Crowd:
    """The crowd with person_mask = what the fitted bodies leave visible of each other, soft."""
    depths = [body_depth(body, person, crowd.camera) for person in crowd.people]
    masks = []
    for index, depth in enumerate(depths):
        seen = np.isfinite(depth)
        for other in depths[:index] + depths[index + 1 :]:
            seen &= ~(other < depth - _NEARER)
        rows = np.flatnonzero(seen.any(axis=1))
        sigma = max(_SOFT * (np.ptp(rows) if len(rows) else 0.0), 1.0)
        soft = cv2.GaussianBlur(seen.astype(np.float32), (0, 0), sigma)
        masks.append((soft * 255 + 0.5).astype(np.uint8))
    return replace(
        crowd,
        people=tuple(
            replace(person, person_mask=mask) for person, mask in zip(crowd.people, masks)
        ),
    )


def body_depth(body: BodyModel, person: Person, camera: Camera) -> np.ndarray:
    """Metres to the body alone, inf beside it.  # [H, W]"""
    depth, _ = render_mesh_depth(body.posed(person.params).vertices, body.faces.numpy(), camera)
    return np.asarray(depth, np.float32)


# Detections made from fitted bodies, for estimators that give bodies instead of landmarks

_SEEN, _HIDDEN, _OUTSIDE = 0.95, 0.3, 0.1  # confidence of a landmark
_LANDMARK_NEARER = 0.15  # metres by which another body must be nearer to hide a landmark


def detections_from_bodies(
    alone: Fitter, bodies: Bodies, scores: Tensor, shape: tuple[int, int]
) -> list[Detection]:
    """What a detector would say about bodies in front of a camera at the origin.

    Args:
        alone: the fitter of that camera.
        bodies: P bodies.
        scores: [P] 0..1.
        shape: height and width of the photo.
    """
    with torch.no_grad():
        landmarks = alone.pose(bodies).landmarks
        vertices = alone.vertices(bodies).numpy()
        xy = project(landmarks, *alone.camera).numpy()
        stature = alone.body.stature(bodies.betas, bodies.scale).numpy()
    K = alone.camera[0].numpy().astype(np.float64)
    points = landmarks.numpy() @ OPENCV_FROM_SCENE.T
    depths = [_landmark_depth(alone, body, K, shape) for body in vertices]
    found = []
    for index, pixels in enumerate(xy):
        sure = _confidence(pixels, points[index, :, 2], depths, index)
        size = float(stature[index] * K[1, 1] / max(points[index, :, 2].mean(), 0.05))
        mask = np.isfinite(depths[index])
        box = visible_box(pixels, sure, mask.astype(np.float32))
        keypoints = Keypoints(pixels.astype(np.float32), sure, _world(points[index], pixels, K))
        found.append(
            Detection(
                keypoints,
                box,
                float(scores[index]),
                np.where(mask, 255, 0).astype(np.uint8),
                size,
                detection_flags(size, sure, box, shape),
            )
        )
    return found


def _landmark_depth(
    alone: Fitter, vertices: np.ndarray, K: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    camera = Camera(K, alone.camera[1].numpy().astype(np.float64), shape[1], shape[0])
    return np.asarray(render_mesh_depth(vertices, alone.body.faces.numpy(), camera)[0])


def _confidence(
    xy: np.ndarray, depth: np.ndarray, depths: list[np.ndarray], index: int
) -> np.ndarray:
    """Whether each landmark is in the photo and before every other body.  # [33] float32"""
    height, width = depths[index].shape
    inside = ((xy >= 0) & (xy < [width, height])).all(axis=1)
    columns, rows = np.clip(np.floor(xy), 0, [width - 1, height - 1]).astype(int).T
    hidden = np.zeros(len(xy), bool)
    for other, surface in enumerate(depths):
        if other != index:
            hidden |= surface[rows, columns] < depth - _LANDMARK_NEARER
    sure = np.where(hidden, _HIDDEN, _SEEN)
    return np.where(inside, sure, _OUTSIDE).astype(np.float32)


def _world(points: np.ndarray, xy: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Metric landmarks as MediaPipe tells them: from the mid-hip, seen straight on.  # [33, 3]"""
    hip = xy[TORSO].mean(axis=0)
    turn = turn_to_ray(pixel_rays(hip, K))
    middle = points[HIPS].mean(axis=0)
    return ((points - middle) @ turn).astype(np.float32)


def build_crowd(
    body: BodyModel,
    start: StartBodies,
    scores: torch.Tensor,
    K: np.ndarray,
    shape: tuple[int, int],
    config: PeopleConfig,
    focal_source: FocalSource,
) -> Crowd:
    """Bodies in front of a camera become the crowd.

    Args:
        body: the model of the bodies.
        start: bodies and hands, scene axes with the camera at the origin.
        scores: [P] 0..1.
        K: [3, 3] of the photo.
        shape: height and width of the photo.
        config: how many steps.
        focal_source: where K comes from.
    """
    with single_thread():
        alone = Fitter(body, BodyPoints(body), K, camera_at_origin())
        found = detections_from_bodies(alone, start.bodies, scores, shape)
        config = replace(config, use_silhouette=False)  # the masks are the bodies' own
        fitted = Fitted(start.bodies, found, make_targets(found, K))
        crowd = crowd_on_floor(alone, fitted, K, shape, config, focal_source)
        people = [
            person.with_params(
                pose=np.concatenate([person.pose[: len(BODY_JOINTS)], hands.numpy()])
            )
            for person, hands in zip(crowd.people, start.hands)
        ]
        return with_body_masks(replace(crowd, people=tuple(people)), body)


# A person who was found alone, in a scene of their own, comes into another scene of that photo.
# Both scenes have the same pinhole camera, so the person keeps their picture: what changes is where
# up is, and how far they are, which their feet on the other scene's floor decide.

_STEPS = (0.6, 1.6)  # how much larger or smaller standing on the floor may make somebody
_SURE, _LEAST_SURE = 0.5, 4  # confidence of a landmark, and how many two people must share
_LEAST_DROP = 0.05  # metres from the camera to the lowest skin, lest somebody slides to infinity
_SAME = 0.08  # of the box's longer side: landmarks this near on average are one person's


def into_scene(found: Crowd, crowd: Crowd, body: BodyModel) -> tuple[Person, bool]:
    """The first of `found` in the scene of `crowd`, and whether they stand on its floor.

    Args:
        found: somebody alone, with the intrinsics of the crowd's camera.
        crowd: the scene they come into; its camera and floor stay as they are.
        body: the model of all of them.
    """
    person = found.people[0]
    change = np.linalg.inv(crowd.camera.viewmat) @ found.camera.viewmat
    turn = change[:3, :3]
    pose = np.array(person.pose, np.float64)
    pose[0] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(pose[0]))
    pelvis = turn @ (rest_pelvis(body, person.betas, person.scale) + person.transl) + change[:3, 3]
    moved = _placed(person.with_params(pose=pose.astype(np.float32)), pelvis, person.scale, body)
    return _on_floor(moved, pelvis, crowd, body, found.on_ground[0])


def rest_pelvis(body: BodyModel, betas: np.ndarray, scale: float) -> np.ndarray:
    """The pelvis of the rest body in the canonical frame.  # [3] float64, metres"""
    with torch.no_grad():
        _, joints = body.rest(
            torch.as_tensor(np.asarray(betas, np.float32))[None], torch.tensor([float(scale)])
        )
    return joints[0, 0].double().numpy()


def project_landmarks(person: Person, crowd: Crowd, body: BodyModel) -> Person:
    """Landmarks that lie elsewhere than the person's body come to lie where it has them.

    The masks go by landmarks, and where a user has corrected a pose these may be somebody else's.

    Args:
        person: with the pose that holds.
        crowd: gives the camera.
        body: the model of all of them.
    """
    posed = body.posed(person.params).landmarks.astype(np.float64)
    xy, _ = crowd.camera.project(posed)
    apart = np.linalg.norm(xy - person.keypoints.xy, axis=1)
    wrong = apart > _SAME * float((person.box[2:] - person.box[:2]).max())
    xy = np.where(wrong[:, None], xy, person.keypoints.xy).astype(np.float32)
    return replace(person, keypoints=replace(person.keypoints, xy=xy))


def find_same_person(person: Person, people: list[tuple[int, Person]]) -> int | None:
    """The number of the one whose landmarks lie where this person's do, if there is one."""
    sure = person.keypoints.confidence > _SURE
    size = float((person.box[2:] - person.box[:2]).max())
    for index, other in people:
        both = sure & (other.keypoints.confidence > _SURE)
        apart = np.linalg.norm(person.keypoints.xy - other.keypoints.xy, axis=1)[both]
        if len(apart) >= _LEAST_SURE and apart.mean() < _SAME * size:
            return index
    return None


def _on_floor(
    person: Person, pelvis: np.ndarray, crowd: Crowd, body: BodyModel, stood: bool
) -> tuple[Person, bool]:
    """Slides along the viewing ray until the feet touch; only out of the floor if they float."""
    eye = crowd.camera.eye
    low = body.posed(person.params).lowest
    factor = float(eye[1] / max(eye[1] - low, _LEAST_DROP))
    possible = _STEPS[0] < factor < _STEPS[1]
    standing = stood and possible
    if standing or (low < 0 and possible):
        person = _placed(person, eye + (pelvis - eye) * factor, person.scale * factor, body)
    return person, standing


def _placed(person: Person, pelvis: np.ndarray, scale: float, body: BodyModel) -> Person:
    transl = pelvis - rest_pelvis(body, person.betas, scale)
    return person.with_params(scale=float(scale), transl=transl.astype(np.float32))
