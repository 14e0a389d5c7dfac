# SPDX-License-Identifier: Apache-2.0
"""Small stages that stand in for the real ones: enough to run the pipeline in a second.

Nothing here needs torch, which takes two seconds to load, unless corrections are made.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from crowdgaussian.avatar.types import Outcome
from crowdgaussian.core.progress import Progress
from crowdgaussian.people.types import Crowd, Keypoints, Person
from crowdgaussian.pipeline.stages import Stages
from crowdgaussian.segment.types import PersonMask
from crowdgaussian_shared.geometry.avatar import Avatar, BodyMesh, BodyParams, Gaussians
from crowdgaussian_shared.geometry.camera import Camera
from PIL import Image

WIDTH, HEIGHT = 160, 120


def write_photo(path, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def make_person(place, count, shape):
    x = WIDTH * (place + 0.5) / count
    keypoints = Keypoints(
        np.full((33, 2), x, np.float32), np.ones(33, np.float32), np.zeros((33, 3), np.float32)
    )
    return Person(
        params=BodyParams(
            np.full(10, place, np.float32),
            np.zeros((55, 3), np.float32),
            np.array([place, 0.9, -4], np.float32),
            1.0 + place / 8,
        ),
        keypoints=keypoints,
        box=np.array([x - 9, 20 - place, x + 9, 100 + place], np.float32),
        score=0.9,
        person_mask=np.full(shape, 10 * place, np.uint8),
        flags=("small", "cut") if place == 1 else (),
        reprojection_px=1.5,
    )


def make_avatar(person, count=50):
    rng = np.random.default_rng(0)
    joints = np.zeros((count, 4), np.uint8)
    weights = np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1))
    quats = np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1))
    gaussians = Gaussians(
        rng.normal(0, 0.3, (count, 3)).astype(np.float32),
        quats,
        np.full((count, 3), 0.02, np.float32),
        np.full(count, 0.8, np.float32),
        np.zeros((count, 1, 3), np.float32),
    )
    vertices = np.array([[0, -0.9, 0], [0.3, 0.8, 0.1], [-0.3, 0.8, 0.1]] * 3, np.float32)
    body = BodyMesh(vertices, np.array([[0, 1, 2]], np.int32), joints[:9], weights[:9])
    return Avatar(gaussians, joints, weights, np.zeros((55, 3), np.float32), body, person.params)


@dataclass
class Script:
    """What the stand-ins do, and a diary of what was asked of them."""

    people: int = 3
    fail: dict[int, Exception] = field(default_factory=dict)  # by person
    seconds: float = 0.0  # each avatar takes, in ten reported steps
    diary: list[str] = field(default_factory=list)
    focal: float | None = None
    watch_masks: Callable[[Crowd], None] = lambda crowd: None

    def stages(self, config):
        self.diary.append("load")
        return Stages(
            StandInBody(),
            StandInPeople(self),
            StandInMasks(self),
            StandInAvatars(self),
            lambda *_: {"iou": 0.95, "psnr_db": 30.0, "coverage": 0.99},
            lambda other: StandInBoxes(self, other.people.boxes),
        )


class StandInBody:
    """A stick from one metre below the pelvis to one above it."""

    def height(self, params):
        return 2.0 * params.scale

    def posed(self, params):
        vertices = np.array([[0, -1, 0], [0, 1, 0]]) * params.scale + params.transl
        joints = np.zeros((55, 3), np.float32) + np.asarray(params.transl, np.float32)
        return StandInMesh(vertices.astype(np.float32), joints, joints[:33])

    def rest(self, betas, scale):
        """As tensors; for corrections."""
        import torch

        vertices = torch.tensor([[[0.0, -1, 0], [0, 1, 0]]]) * scale.reshape(-1, 1, 1)
        return vertices, torch.zeros(1, 55, 3)


@dataclass(frozen=True)
class StandInMesh:
    """As body.model.PosedMesh."""

    vertices: np.ndarray
    joints: np.ndarray
    landmarks: np.ndarray

    @property
    def lowest(self):
        return float(self.vertices[:, 1].min())


@dataclass
class StandInPeople:
    script: Script

    def estimate(self, photo, focal_px, report):
        self.script.diary.append("people")
        self.script.focal = focal_px
        height, width = photo.shape[:2]
        K = np.array([[200.0, 0, width / 2], [0, 200.0, height / 2], [0, 0, 1]])
        people = tuple(
            make_person(i, self.script.people, (height, width)) for i in range(self.script.people)
        )
        camera = Camera(K, np.diag([1.0, -1, -1, 1]), width, height)
        return Crowd(people, camera, "default", tuple(i != 1 for i in range(len(people))))


@dataclass
class StandInBoxes:
    """Somebody four metres in front of a level camera a metre above the floor they stand on."""

    script: Script
    boxes: str

    def estimate(self, photo, focal_px, report):
        self.script.diary.append(f"box {self.boxes}")
        self.script.focal = focal_px
        box = np.array([float(value) for value in self.boxes.split(",")], np.float32)
        person = replace(make_person(0, 1, photo.shape[:2]), box=box)
        person = person.with_params(transl=np.array([0, 1, -4], np.float32))
        x = float(box[[0, 2]].mean())
        x = WIDTH / 6 if x < WIDTH / 3 else x  # the left third belongs to person 0
        xy = np.full((33, 2), x, np.float32)
        person = replace(person, keypoints=replace(person.keypoints, xy=xy))
        height, width = photo.shape[:2]
        K = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])
        viewmat = np.diag([1.0, -1, -1, 1])
        viewmat[1, 3] = 1.0
        return Crowd((person,), Camera(K, viewmat, width, height), "exif", (True,))


@dataclass
class StandInMasks:
    script: Script

    def segment(self, photo, crowd, report):
        self.script.diary.append("masks")
        self.script.watch_masks(crowd)
        masks = []
        for index in range(len(crowd.people)):
            visible = np.zeros(photo.shape[:2], bool)
            visible[20:100, 10 * index : 10 * index + 8] = True
            masks.append(PersonMask(visible, visible.copy(), 0.25))
        return masks


@dataclass
class StandInAvatars:
    script: Script
    body_name = "open"

    def reconstruct(self, view, indices, report):
        for index in indices:
            yield Outcome.of(index, lambda i=index: self._avatar(view, i, report))

    def _avatar(self, view, index, report):
        self.script.diary.append(f"avatar {index}")
        for step in range(10):
            report(Progress("avatars", step / 10, index, len(view)))
            time.sleep(self.script.seconds / 10)
        if index in self.script.fail:
            raise self.script.fail[index]
        return make_avatar(view.person(index))
