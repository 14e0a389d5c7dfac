# SPDX-License-Identifier: Apache-2.0
"""One network that teaches itself: complete image without adapters, hidden parts with them.

The teacher's renders of a person and the image tokens of teacher and student never change in a
training, so they come from the cache; what is left of a step is the transformer, the renders of the
student and their gradient. Here are its settings, loss and views too.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.errors import SettingError
from crowdgaussian_shared.formats.atomic import write_bytes
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ...core.metrics import mse, ssim
from ...core.progress import setting
from ...core.rotations import axis_angle_to_matrix, joint_transforms
from ...core.training import TrainingConfig
from ...splat.cameras import Cameras
from ..model.adapters import DEFAULT_TARGETS, RANK, adapters_off
from ..model.lorm import LormModel, Tokens, render_people
from ..model.posing import Attributes, Posing
from .dataset import InputSizes, TrainingPerson, complete_inputs, occluded_inputs
from .occlusion import OcclusionConfig, occlude_randomly

# How far the student's renders are from the teacher's (CrowdGaussian, equation 4)


@dataclass(frozen=True)
class DistillationWeights:
    """The two weights of equation 4; their values are our choice."""

    rgb: float = setting(1.0, "lambda_rgb")
    ssim: float = setting(0.2, "lambda_ssim")


def distillation_loss(student: Tensor, teacher: Tensor, weights: DistillationWeights) -> Tensor:
    """rgb * L2 + ssim * (1 - SSIM), the mean over views.

    Args:
        student: renders on white, with gradient.  # [V, H, W, 3] 0..1
        teacher: renders of the same views.  # [V, H, W, 3] 0..1
        weights: of the two parts.
    """
    difference = weights.rgb * mse(student, teacher)
    return (difference + weights.ssim * (1 - ssim(student, teacher))).mean()


# The 24 horizontal views around a person in which teacher and student are compared

VIEWS = 24
FOV = 0.6  # radians, vertical
_MARGIN = 0.3  # metres beyond the joints: skull, hands, feet, clothes


def orbit_cameras(
    posing: Posing, betas: Tensor, pose: Tensor, size: int, views: int = VIEWS
) -> Cameras:
    """Cameras around one person who stands at the origin, all of them in sight.

    Args:
        posing: of the network.
        betas: [S].
        pose: [55, 3] axis-angle, radians.
        size: side of the square images, pixels.
        views: how many.
    """
    with torch.no_grad():
        rotations = axis_angle_to_matrix(pose[None].float())
        _, joints = joint_transforms(
            posing.rest_joints(betas[None].float()), rotations, betas.new_zeros(1, 3).float()
        )
    low, high = joints[0].amin(0), joints[0].amax(0)
    extent = (high - low).norm().item() + _MARGIN
    return Cameras.orbit(
        (low + high) / 2, 0.5 * extent / math.tan(FOV / 2), views, fov=FOV, size=size
    )


def upright(pose: Tensor) -> Tensor:
    """The pose without the turn of the whole body.  # [..., 55, 3]"""
    still = pose.clone()
    still[..., 0, :] = 0
    return still


@dataclass(frozen=True)
class LormTraining(TrainingConfig):
    """How to train; steps, rank, views and the kind of loss are the paper's."""

    steps: int = setting(2000, "steps")
    batch: int = setting(1, "people a step on each GPU")
    views_per_step: int = setting(VIEWS, "of the 24 views")
    render_size: int = setting(512, "side of a view, pixels")
    lr: float = setting(1e-4, "learning rate")
    warmup: int = 100  # steps
    people: int = setting(0, "of DATA, drawn by the seed; the paper has 1,002; 0: everybody")
    rank: int = setting(RANK, "of the adapters")
    targets: str = setting(DEFAULT_TARGETS, "samples, attention, attention+ff or all")
    occlusions: int = setting(4, "different ones of each person, cached; 0: always new")
    save_every: int = setting(200, "steps between checkpoints")
    sample_every: int = setting(200, "steps between pictures")
    gradient_checkpointing: bool = True
    loss: DistillationWeights = field(default_factory=DistillationWeights)
    occlusion: OcclusionConfig = field(default_factory=OcclusionConfig)
    sizes: InputSizes = field(default_factory=InputSizes)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("views_per_step", "rank")
        if self.views_per_step > VIEWS:
            raise SettingError(f"There are {VIEWS} views; use at most so many a step.")
        if self.render_size < 32:
            raise SettingError("Views of a training must have at least 32 pixels a side.")


# What the frozen parts of the network say, kept on disk between steps and between runs. Every entry
# is one safetensors file named by a hash of everything it was made from: the network's weights, the
# person's pictures and parameters, and the settings. Nothing has to be invalidated: what is made
# from something else has another name. A damaged file counts as none.


Tensors = dict[str, Tensor]


class TeacherCache:
    """A folder of tensors by hash.

    Args:
        folder: made when the first entry is written.
        fingerprint: of the network, see fingerprint().
    """

    def __init__(self, folder: str | Path, fingerprint: str):
        self.folder, self.fingerprint = Path(folder), fingerprint

    def path(self, kind: str, *parts: object) -> Path:
        """Where an entry lies that is made from these parts (arrays, tensors, or anything whose
        repr says all of it)."""
        name = digest(self.fingerprint, *parts)
        return self.folder / kind / name[:2] / f"{name[2:]}.safetensors"

    def get(self, path: Path, make: Callable[[], Tensors]) -> Tensors:
        """The entry of a path; made and written where it is not there yet."""
        try:
            return load(path.read_bytes())
        except (OSError, SafetensorError):
            pass
        tensors = {name: value.detach().cpu().contiguous() for name, value in make().items()}
        write_bytes(path, save(tensors))
        return tensors


def digest(*parts: object) -> str:
    """A hash of values, the same on every machine."""
    hashed = hashlib.blake2b(digest_size=20)
    for part in parts:
        if isinstance(part, Tensor):
            part = part.detach().cpu().contiguous().view(torch.uint8).numpy()
        if isinstance(part, np.ndarray):
            hashed.update(f"{part.dtype}{part.shape}".encode())
            hashed.update(np.ascontiguousarray(part).tobytes())
        else:
            hashed.update(repr(part).encode())
        hashed.update(b"|")
    return hashed.hexdigest()


def fingerprint(model: LormModel) -> str:
    """A hash of everything that the network without adapters computes with."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    names = sorted(name for name in tensors if ".lora_" not in name)
    parts: list[object] = [model.config]
    for name in names:
        value = tensors[name]
        parts += [name.replace(".base_layer.", "."), value.reshape(-1)]
    script = getattr(model.body_encoder, "path", None)
    if script is not None:
        parts += [Path(script).name, Path(script).stat().st_size]
    return digest(*parts)


# The student and its lessons


class Student(nn.Module):
    """The network from tokens to attributes, as one module with tensors in and out."""

    def __init__(self, model: LormModel):
        super().__init__()
        self.model = model

    def forward(self, body: Tensor, head: Tensor) -> tuple[Tensor, ...]:
        """As LormModel.attributes."""
        return tuple(vars(self.model.attributes(Tokens(body, head))).values())


@dataclass(frozen=True)
class Lesson:
    """One person of a step."""

    tokens: Tensors  # "body" [T, C] and "head" [S, C] of the occluded image
    renders: Tensor  # [24, S, S, 3] uint8, the teacher's
    cameras: Cameras  # of the 24 views
    betas: Tensor  # [S]
    pose: Tensor  # [55, 3], upright


class Teacher:
    """Makes lessons out of people.

    Args:
        model: with adapters, on its device.
        config: sizes, views and occluders.
        cache: where tokens and renders are kept.
    """

    def __init__(self, model: LormModel, config: LormTraining, cache: TeacherCache):
        self.model, self.config, self.cache = model, config, cache
        self.device = next(model.parameters()).device

    def lesson(self, person: TrainingPerson, rng: np.random.Generator) -> Lesson:
        """A person with some part hidden, and what the teacher says about the whole of them."""
        betas, pose = self._body(person)
        return Lesson(
            self.student_tokens(person, rng),
            self.renders(person),
            self.cameras(person),
            betas,
            pose,
        )

    def cameras(self, person: TrainingPerson) -> Cameras:
        """The 24 views of a person."""
        betas, pose = self._body(person)
        return orbit_cameras(self.model.posing, betas, pose, self.config.render_size)

    def renders(self, person: TrainingPerson) -> Tensor:
        """The teacher's views, without adapters.  # [24, S, S, 3] uint8"""
        path = self.cache.path(
            "renders", *_identity(person), self.config.sizes, self.config.render_size
        )

        def make() -> Tensors:
            with torch.no_grad(), adapters_off(self.model):
                tokens = self.teacher_tokens(person)
                attributes = self.model.attributes(
                    Tokens(*(tokens[name][None].to(self.device) for name in ("body", "head")))
                )
                views = render_people(
                    self.model, attributes, [self._body(person)], [self.cameras(person)]
                )[0]
            return {"color": (views.clamp(0, 1) * 255).round().to(torch.uint8)}

        return self.cache.get(path, make)["color"]

    def teacher_tokens(self, person: TrainingPerson) -> Tensors:
        """Tokens of the complete image."""
        path = self.cache.path("tokens", *_identity(person), self.config.sizes)
        return self.cache.get(
            path, lambda: self._encode(complete_inputs(person, self.config.sizes))
        )

    def student_tokens(self, person: TrainingPerson, rng: np.random.Generator) -> Tensors:
        """Tokens with hidden parts: one of a few occlusions of each person, or a new one."""
        if self.config.occlusions == 0:
            return self._encode(self.occluded(person, rng))
        which = int(rng.integers(self.config.occlusions))
        path = self.cache.path(
            "tokens",
            *_identity(person),
            self.config.sizes,
            self.config.occlusion,
            self.config.seed,
            which,
            person.landmarks,
        )
        seeded = np.random.default_rng(
            [self.config.seed, which, len(person.name), *person.name.encode()]
        )
        return self.cache.get(path, lambda: self._encode(self.occluded(person, seeded)))

    def occluded(self, person: TrainingPerson, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Body and head image with the same pixels hidden."""
        hidden = occlude_randomly(
            person.photo, person.mask, person.keypoints, rng, self.config.occlusion
        )
        return occluded_inputs(person, hidden, self.config.sizes)

    @torch.no_grad()
    def _encode(self, images: tuple[Tensor, Tensor]) -> Tensors:
        tokens = self.model.encode(*(image[None].to(self.device) for image in images))
        short = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        return {"body": tokens.body[0].to(short), "head": tokens.head[0].to(short)}

    def _body(self, person: TrainingPerson) -> tuple[Tensor, Tensor]:
        return (
            torch.from_numpy(person.betas).to(self.device),
            upright(torch.from_numpy(person.pose)).to(self.device),
        )


def step_loss(
    student: nn.Module,
    model: LormModel,
    lessons: Sequence[Lesson],
    config: LormTraining,
    rng: np.random.Generator,
) -> Tensor:
    """Equation 4 over some of the 24 views of some people."""
    device = next(model.parameters()).device
    body, head = (
        torch.stack([lesson.tokens[name].to(device) for lesson in lessons])
        for name in ("body", "head")
    )
    attributes = Attributes(*(value.float() for value in student(body, head)))
    chosen = [
        np.sort(rng.permutation(len(lesson.cameras))[: config.views_per_step]) for lesson in lessons
    ]
    cameras = [lesson.cameras[views] for lesson, views in zip(lessons, chosen, strict=True)]
    bodies = [(lesson.betas, lesson.pose) for lesson in lessons]
    renders = render_people(model, attributes, bodies, cameras)
    losses = [
        distillation_loss(render, lesson.renders[views].to(device) / 255, config.loss)
        for render, lesson, views in zip(renders, lessons, chosen, strict=True)
    ]
    return torch.stack(losses).mean()


def _identity(person: TrainingPerson) -> tuple[object, ...]:
    return (person.photo, person.mask, person.betas, person.pose, person.head)
