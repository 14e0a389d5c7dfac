# SPDX-License-Identifier: Apache-2.0
"""Photo -> everybody in it by Multi-HMR, on the shared floor; implements PeopleEstimator."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.axes import SCENE_FROM_OPENCV
from crowdgaussian_shared.geometry.camera import photo_camera, pixel_rays, turn_to_ray
from crowdgaussian_shared.geometry.rotations import matrix_to_axis_angle
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS, FACE_JOINTS, JOINT_INDEX, NUM_JOINTS
from torch import Tensor

from ...body.load import find_smplx, read_smplx, smplx_vertex_ids
from ...body.model import BodyModel, read_arrays
from ...core.crop import Letterbox, letterbox
from ...core.device import choose_device, float_tensor
from ...core.progress import Progress, Report
from ..crowd import build_crowd, single_thread
from ..detect.search import read_boxes
from ..fit.convert import StartBodies, fit_to_joints
from ..fit.fitter import Bodies
from ..types import Crowd, PeopleConfig, multihmr_file, smplx_file
from .head import NUM_EXPRESSIONS
from .network import Humans, MultiHmrNetwork, load_multihmr

# Multi-HMR's people as SMPL-X meshes and 127 joints in front of their camera

HEAD = JOINT_INDEX["head"]
# Multi-HMR's rotation k turns our joint FROM_NETWORK[k]; the eyes keep still.
FROM_NETWORK = (
    *range(len(BODY_JOINTS)),
    *range(len(BODY_JOINTS + FACE_JOINTS), NUM_JOINTS),
    JOINT_INDEX["jaw"],
)
_SHAPE_SPACE = 300  # leading columns of SMPL-X's shape directions, when the file is complete
_VERTICES = (
    "nose",
    "reye",
    "leye",
    "rear",
    "lear",
    "LBigToe",
    "LSmallToe",
    "LHeel",
    "RBigToe",
    "RSmallToe",
    "RHeel",
    *(
        f"{side}{finger}"
        for side in "lr"
        for finger in ("thumb", "index", "middle", "ring", "pinky")
    ),
)


@dataclass(frozen=True)
class PlacedHumans:
    """P people in OpenCV camera axes, metres; pixels are those of the K that placed them."""

    v3d: Tensor  # [P, 10475, 3]
    j3d: Tensor  # [P, 127, 3]
    j2d: Tensor  # [P, 127, 2]
    transl: Tensor  # [P, 3] of the head joint
    transl_pelvis: Tensor  # [P, 1, 3]


def full_pose(rotations: Tensor) -> Tensor:
    """53 rotations of the network -> the skeleton's 55 as axis-angle, eyes still.  # [P, 55, 3]"""
    pose = np.zeros((len(rotations), NUM_JOINTS, 3))
    pose[:, list(FROM_NETWORK)] = matrix_to_axis_angle(rotations.double().numpy())
    return float_tensor(pose)


class SmplxPeople:
    """SMPL-X with expression and the smplx package's 127 points, read without pickle."""

    def __init__(self, path: Path | None) -> None:
        """path: SMPLX_NEUTRAL.npz or a folder that holds it.

        Raises:
            CrowdGaussianError: it is missing or not SMPL-X.
        """
        data = read_smplx(path)
        file = find_smplx(path)
        arrays = read_arrays(
            file, ("shapedirs", "J_regressor", "lmk_faces_idx", "lmk_bary_coords"), "SMPL-X"
        )
        directions = arrays["shapedirs"]
        first = _SHAPE_SPACE if directions.shape[2] > _SHAPE_SPACE else len(data.directions)
        face = directions[:, :, first : first + NUM_EXPRESSIONS].transpose(2, 0, 1)
        face = face.astype(np.float32)
        on_joints = np.einsum("jv,bvc->bjc", arrays["J_regressor"].astype(np.float32), face)
        self.num_betas, self.num_expressions = len(data.directions), len(face)
        self.model = BodyModel(
            replace(
                data,
                directions=np.concatenate([data.directions, face]),
                joint_directions=np.concatenate([data.joint_directions, on_joints]),
            )
        )
        names = smplx_vertex_ids()
        self.vertex_ids = torch.tensor([names[name] for name in _VERTICES])
        self.face_ids = torch.as_tensor(
            data.faces[arrays["lmk_faces_idx"].astype(np.int64)]
        )  # [51, 3]
        self.face_weights = torch.as_tensor(arrays["lmk_bary_coords"].astype(np.float32))

    def place(self, humans: Humans, K: Tensor) -> PlacedHumans:
        """Poses everybody about the pelvis and moves the head joint to where it was seen.

        Args:
            humans: of one image, on the CPU.
            K: [3, 3] of that image.
        """
        betas = humans.betas[:, : self.num_betas]
        shape = torch.cat([betas, humans.expression[:, : self.num_expressions]], dim=1)
        posed = self.model(shape, full_pose(humans.rotations), torch.zeros(len(shape), 3))
        corners = posed.vertices[:, self.face_ids]  # [P, 51, 3, 3]
        landmarks = (corners * self.face_weights[..., None]).sum(dim=2)
        points = torch.cat([posed.joints, posed.vertices[:, self.vertex_ids], landmarks], dim=1)
        shift = (humans.transl - posed.joints[:, HEAD])[:, None]
        points = points + shift
        flat = points @ K.T
        return PlacedHumans(
            posed.vertices + shift,
            points,
            flat[..., :2] / flat[..., 2:],
            humans.transl,
            points[:, :1],
        )


# Multi-HMR's people in the photo's own camera, as bodies of the model that a run uses

_BODY = len(BODY_JOINTS)  # pelvis and body joints; jaw, eyes and fingers follow
TRAINED_FOVS = (50.0, 70.0)  # degrees across the longer side that the network knows


def known_camera(K: np.ndarray, side: float) -> np.ndarray:
    """K with the nearest focal length that the network was trained for.  # [3, 3]

    Args:
        K: of the photo.
        side: its longer side, pixels.
    """
    near, far = (side / 2 / np.tan(np.radians(fov) / 2) for fov in TRAINED_FOVS)
    factor = float(np.clip(K[0, 0], far, near) / K[0, 0])
    return K * np.array([[factor, 1, 1], [1, factor, 1], [1, 1, 1]])


def in_photo(humans: Humans, view: Letterbox, used: np.ndarray, K: np.ndarray) -> Humans:
    """People told for another camera, as the photo's own camera sees them.

    Their size in the photo stays, so distance grows with the focal length; they turn with their
    viewing ray.

    Args:
        humans: as the network gave them, on the CPU.
        view: the square that the network saw.
        used: [3, 3] the camera given to the network, in photo pixels.
        K: [3, 3] the photo's own.
    """
    loc = view.to_photo(humans.loc.double().numpy())
    rays = pixel_rays(loc, K)
    turns = np.stack(
        [turn_to_ray(ray) @ turn_to_ray(seen).T for ray, seen in zip(rays, pixel_rays(loc, used))]
    )
    distance = humans.distance * float(K[0, 0] / used[0, 0])
    rotations = humans.rotations.clone()
    rotations[:, 0] = float_tensor(turns) @ rotations[:, 0]
    return replace(
        humans,
        loc=float_tensor(loc),
        distance=distance,
        rotations=rotations,
        transl=float_tensor(rays) * distance[:, None],
    )


def start_bodies(humans: Humans, body: BodyModel, smplx: SmplxPeople | None) -> StartBodies:
    """The run's own body model in the pose and place of the network's people.

    SMPL-X takes the network's betas; another body is fitted to the joints of SMPL-X, or keeps its
    average shape where no SMPL-X file is at hand.
    """
    pose = full_pose(humans.rotations)
    people = len(pose)
    own = body.name == "smplx"
    betas = humans.betas[:, : body.num_betas] if own else torch.zeros(people, body.num_betas)
    rest = body.joint_template + torch.tensordot(betas, body.joint_directions, dims=1)
    posed = body(betas, pose, torch.zeros(people, 3))
    pelvis = humans.transl - posed.joints[:, HEAD] + rest[:, 0]
    to_scene = float_tensor(SCENE_FROM_OPENCV)
    bodies = Bodies(
        to_scene @ humans.rotations[:, 0],
        pose[:, 1:_BODY],
        pelvis @ to_scene.T,
        betas,
        torch.ones(people),
    )
    hands = pose[:, _BODY:]
    if smplx is not None and not own:
        joints = smplx.place(humans, torch.eye(3)).j3d[:, :55] @ to_scene.T
        bodies = fit_to_joints(body, joints, replace(bodies, pelvis=joints[:, 0]), hands)
    return StartBodies(bodies, hands)


class MultiHmr:
    """The network's people, told by the body model of the run and put on one floor."""

    def __init__(self, config: PeopleConfig, body: BodyModel) -> None:
        """Finds and loads the network.

        Raises:
            CrowdGaussianError: its file, or that of SMPL-X, is missing or damaged.
        """
        device = choose_device()
        self.config, self.body, self.device = config, body, device
        self.network: MultiHmrNetwork = load_multihmr(multihmr_file(config), device)
        smplx = None if body.name == "smplx" else smplx_file(config)
        self.smplx = None if smplx is None else SmplxPeople(smplx)

    def estimate(self, photo: np.ndarray, focal_px: float | None, report: Report) -> Crowd:
        """Finds everybody and puts them on the floor.

        Args:
            photo: [H, W, 3] uint8 sRGB.
            focal_px: pixels, from EXIF or an option; None takes the configured field of view.
            report: called between the steps.

        Raises:
            CrowdGaussianError: nobody was found, or people.boxes is wrong.
        """
        shape = photo.shape[:2]
        K, source = photo_camera(focal_px, shape, self.config.default_fov)
        report(Progress("people", 0.0, message="Multi-HMR looks at the photo"))
        humans = self.predict(photo, K)
        people = len(humans.scores)
        report(Progress("people", 0.6, None, people, f"{people} found, looking for the ground"))
        with single_thread():
            start = start_bodies(humans, self.body, self.smplx)
        crowd = build_crowd(self.body, start, humans.scores, K, shape, self.config, source)
        report(Progress("people", 0.95, None, people, "people placed"))
        return crowd

    def predict(self, photo: np.ndarray, K: np.ndarray) -> Humans:
        """The network's people in the camera K of the photo, left to right, on the CPU.

        Raises:
            InputError: nobody was found.
        """
        view = letterbox(photo, self.network.sizes.image)
        used = known_camera(K, max(photo.shape[:2]))
        camera = torch.as_tensor(view.camera(used), dtype=torch.float32, device=self.device)
        found = self.network(
            view.pixels[None].to(self.device), camera[None], self.config.multihmr_score
        )[0]
        if not len(found.scores):
            raise InputError(
                "Multi-HMR found no person in the photo; use one in which heads are seen, or set "
                "stages.people to keypoint_fit."
            )
        humans = in_photo(Humans(*(part.cpu() for part in vars(found).values())), view, used, K)
        kept = self._wanted(humans, photo.shape[:2])[: self.config.max_people]
        order = kept[humans.loc[kept, 0].argsort()]
        return Humans(*(part[order] for part in vars(humans).values()))

    def _wanted(self, humans: Humans, shape: tuple[int, int]) -> torch.Tensor:
        """Indices of the people, best first: all, or the best one with its head in each box."""
        if not self.config.boxes:
            return torch.arange(len(humans.scores))
        chosen: list[int] = []
        for number, box in enumerate(read_boxes(self.config.boxes, shape), start=1):
            x, y = humans.loc.T.numpy()
            inside = (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])
            free = [k for k in np.flatnonzero(inside).tolist() if k not in chosen]
            if not free:
                raise InputError(
                    f"Multi-HMR sees no head in box {number} of people.boxes; draw it around the "
                    "whole person, or leave it out."
                )
            chosen.append(free[0])
        return torch.tensor(sorted(chosen))
