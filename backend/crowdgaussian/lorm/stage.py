# SPDX-License-Identifier: Apache-2.0
"""The appearance stage "lorm": the people of a photo through the network, several at once."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from crowdgaussian_shared.errors import Cancelled, OutOfMemoryError, SettingError
from crowdgaussian_shared.geometry.avatar import Avatar, BodyParams, HoldsBodyParams
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS
from crowdgaussian_shared.geometry.skinning import pose_body
from torch import Tensor

from ..avatar.types import Outcome
from ..body import BodyModel
from ..core.device import choose_device, within_memory
from ..core.progress import Progress, Report
from ..people.types import Crowd, Person
from ..segment.types import CrowdView
from .inputs import (
    FaceEnlarger,
    HeadDetector,
    body_crop,
    body_size,
    check_person,
    head_crop,
    head_points,
)
from .model.config import LormConfig
from .model.encoders import PatchEncoder
from .model.lorm import LormModel
from .model.posing import Attributes
from .model.query_points import TemplateMesh
from .weights import LormStageConfig

# How many people go through the network at once, and in which precision

_COPIES = 24  # float32 rows of the width alive in a block, estimated; too few only halve a batch
_SPARE = 0.7  # of the free memory
_MOST = 16  # people; more gain nothing
_OOM_MESSAGE = (
    "There is not enough memory for one person; free some, or set lorm.device=cpu where the GPU's "
    "is too small."
)


def people_at_once(config: LormConfig, device: torch.device) -> int:
    """As many as the free memory of a GPU surely holds; one on a CPU, where more gain nothing."""
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    rows = config.num_points + config.body_tokens + config.head_encoder.tokens
    each = rows * config.width * 4 * _COPIES
    return int(min(max(1, _SPARE * free / each), _MOST))


@torch.no_grad()
def forward(model: LormModel, bodies: Tensor, heads: Tensor, bfloat16: bool = True) -> Attributes:
    """The network on people, in halves where the memory is too small for all of them.

    Args:
        model: on its device.
        bodies: [B, 3, h, w] 0..1.
        heads: [B, 3, s, s] 0..1.
        bfloat16: networks on CUDA under bfloat16 autocast; the decoder and all geometry are
            float32 in any case.

    Raises:
        OutOfMemoryError: not even one person fits.
    """
    device = next(model.parameters()).device
    short = bfloat16 and device.type == "cuda"
    try:
        with (
            within_memory(_OOM_MESSAGE),
            torch.autocast(device.type, torch.bfloat16, enabled=short),
        ):
            return model(bodies.to(device), heads.to(device))
    except OutOfMemoryError:
        if len(bodies) == 1:
            raise
    torch.cuda.empty_cache()
    half = len(bodies) // 2
    parts = [
        forward(model, bodies[some], heads[some], bfloat16)
        for some in (slice(half), slice(half, None))
    ]
    return Attributes(
        *(
            torch.cat(values)
            for values in zip(*(vars(part).values() for part in parts), strict=True)
        )
    )


log = logging.getLogger(__name__)
FRAMES = ("amodal", "visible")
Images = tuple[np.ndarray, np.ndarray]  # body [h, w, 3] and head [s, s, 3], float32 0..1


class LormReconstructor:
    """Builds avatars with LORM, or with plain LHM where no adapters are given.

    Several people go through the network together. A person whose input is bad fails alone.

    Args:
        config: files and how to run.
        body: the model that the people stage fits.
        model: the network; loaded from the files when None.
        detector: finds heads in place of the body model; none is part of the program.
        enlarger: face super-resolution; none is part of the program.

    Raises:
        CrowdGaussianError: a file is missing, or a setting has no meaning.
    """

    def __init__(
        self,
        config: LormStageConfig,
        body: BodyModel,
        model: LormModel | None = None,
        detector: HeadDetector | None = None,
        enlarger: FaceEnlarger | None = None,
    ) -> None:
        if config.frame not in FRAMES:
            raise SettingError(
                f"'{config.frame}' is no value for lorm.frame; use one of: {', '.join(FRAMES)}."
            )
        self.config, self.body = config, body
        self.device = choose_device(config.device, "lorm.device")
        if model is None:
            from .checkpoint import load_configured

            model = load_configured(config, self.device)
        self.model = model.to(self.device).eval()
        self.detector, self.enlarger = detector, enlarger

    @property
    def body_name(self) -> str:
        """Whose shape coefficients the avatars carry."""
        return self.body.name if same_body(self.model.mesh, self.body) else "smplx"

    def reconstruct(
        self, view: CrowdView, indices: Sequence[int], report: Report
    ) -> Iterator[Outcome]:
        """Yield the avatars, as many people at once as fit; see AvatarBuilder."""
        left = list(indices)
        while left:
            many = self.config.batch or people_at_once(self.model.config, self.device)
            batch = left[:many]
            try:
                outcomes = self._run(view, batch, report)
            except Cancelled:
                raise
            except Exception as error:  # noqa: BLE001  the others are tried without the first
                outcomes = [Outcome(batch[0], error=error)]
            left = left[len(outcomes) :]
            yield from outcomes

    def _run(self, view: CrowdView, people: list[int], report: Report) -> list[Outcome]:
        """The outcomes of one batch, in its order."""

        def tell(fraction: float, message: str) -> None:
            report(Progress("avatars", fraction, people[0], len(view), message))

        tell(0.0, "crops")
        images: dict[int, Images] = {}
        outcomes: dict[int, Outcome] = {}
        for index in people:
            try:
                images[index] = self.images(view, index)
            except Exception as error:  # noqa: BLE001  Outcome.result raises it again
                outcomes[index] = Outcome(index, error=error)
        if images:
            names = "LORM" if self.config.adapters else "LHM"
            faces = "with" if self.enlarger else "without"
            tell(0.1, f"{names} on {len(images)}, {faces} face super-resolution")
            attributes = self._attributes(list(images.values()))
            tell(0.9, "avatars")
            for place, index in enumerate(images):
                build = partial(self._avatar, attributes, place, view.crowd, index)
                outcomes[index] = Outcome.of(index, build)
        return [outcomes[index] for index in people]

    def images(self, view: CrowdView, index: int) -> Images:
        """What the network sees of one person; see crops.

        Raises:
            InputError: this person's mask or pose gives no image.
        """
        photo, mask, person = view.photo, view.mask(index), view.person(index)
        check_person(person, index)
        frame = mask.amodal if self.config.frame == "amodal" else None
        body = body_crop(photo, mask.visible, frame, self._body_size())
        surface = self.body.posed(person.params).vertices.astype(np.float64)
        points = head_points(surface, self.body.parts, view.crowd.camera)
        if self.detector is not None:
            found = self.detector.head(photo, points)
            points = points if found is None else found
        shown = mask.visible
        if self.config.photo_behind_head:
            shown = ~np.any([m.visible for i, m in enumerate(view.masks) if i != index], axis=0)
        return body.image, head_crop(
            photo, np.broadcast_to(shown, mask.visible.shape), points
        ).image

    def _body_size(self) -> tuple[int, int]:
        """That of the published models, or what a small encoder was made for."""
        encoder = self.model.body_encoder
        return encoder.size if isinstance(encoder, PatchEncoder) else body_size()

    def _attributes(self, images: list[Images]) -> Attributes:
        bodies, heads = (np.stack(part) for part in zip(*images, strict=True))
        if self.enlarger is not None:
            heads = self.enlarger.enlarge(heads)
        body, head = (torch.from_numpy(part).movedim(-1, 1) for part in (bodies, heads))
        return forward(self.model, body, head, self.config.bfloat16)

    def _avatar(self, attributes: Attributes, place: int, crowd: Crowd, index: int) -> Avatar:
        """Canonical Gaussians in the network's own body, posed as the person stands."""
        person = crowd.people[index]
        shape = shape_of(self.model.mesh, self.body, person)
        pose = torch.as_tensor(np.asarray(person.pose, np.float32), device=self.device)
        betas = torch.as_tensor(shape.betas, device=self.device)
        parts = self.model.canonical(attributes, place, betas, pose, shape.scale)
        avatar = Avatar(
            parts.gaussians,
            parts.skin_joints,
            parts.skin_weights,
            parts.rest_joints,
            parts.body,
            shape.params.as_float32(),
        )
        if crowd.on_ground[index]:
            lowest = self.body.posed(person.params).vertices[:, 1].min().astype(np.float64)
            lift = np.array([0, lowest - _lowest(avatar), 0], np.float32)
            avatar = avatar.with_params(transl=avatar.transl + lift)
        log.info("person %d: rest joints %.1f mm apart", index, 1000 * shape.error)
        return avatar


def _lowest(avatar: Avatar) -> float:
    return float(pose_body(avatar)[:, 1].min())


# From a fitted person's body to the network's own body: betas, scale and place

_REACH = 0.01  # metres at which a joint's error weighs as much as a beta of one
_SIZE_REACH = 0.15  # deviation of the scale from 1 that does


@dataclass(frozen=True)
class Shape(HoldsBodyParams):
    """The network's body for one person."""

    params: BodyParams  # the person's pose; transl keeps the pelvis where it was
    error: float  # metres, root mean square of the body's rest joints


def same_body(mesh: TemplateMesh, body: BodyModel) -> bool:
    """Whether betas of one mean the same to the other (its first ones where it has fewer)."""
    count = mesh.shape_dirs.shape[2]
    return (
        mesh.vertices.shape == body.template.shape
        and count <= body.num_betas
        and torch.allclose(mesh.vertices, body.template.cpu(), atol=1e-4)
        and torch.allclose(
            mesh.joint_dirs, body.joint_directions[:count].permute(1, 2, 0).cpu(), atol=1e-4
        )
    )


def shape_of(mesh: TemplateMesh, body: BodyModel, person: Person) -> Shape:
    """The network's betas, scale and translation for a person fitted with ``body``."""
    betas = torch.as_tensor(np.asarray(person.betas, np.float32))
    _, rest = body.rest(betas[None], torch.tensor([float(person.scale)]))
    wanted = rest[0].detach().cpu()  # [55, 3]
    count = mesh.shape_dirs.shape[2]
    if same_body(mesh, body):
        own, scale = betas[:count], float(person.scale)
    else:
        own, scale = fit_rest_joints(mesh, wanted)
    joints = (mesh.joints + mesh.joint_dirs @ own) * scale
    shift = (wanted[0] - joints[0]).numpy()
    apart = (joints - joints[0] - (wanted - wanted[0]))[: len(BODY_JOINTS)]
    error = float(apart.square().sum(-1).mean().sqrt())
    transl = (np.asarray(person.transl) + shift).astype(np.float32)
    return Shape(
        BodyParams(own.numpy().astype(np.float32), person.pose, transl, float(scale)), error
    )


def fit_rest_joints(mesh: TemplateMesh, wanted: Tensor) -> tuple[Tensor, float]:
    """Betas [S] and scale whose rest joints, moved as a whole, lie best on the wanted [55, 3].

    Linear in the scale s, s * betas and the shift; the pull of the betas to zero and of the scale
    to one are further rows.
    """
    body, count = slice(0, len(BODY_JOINTS)), mesh.joint_dirs.shape[2]
    joints, directions = mesh.joints[body].double(), mesh.joint_dirs[body].double()
    columns = [
        joints.reshape(-1, 1),
        directions.reshape(-1, count),
        torch.eye(3).double().repeat(len(joints), 1),
    ]
    rows = torch.cat(columns, 1) / _REACH  # [66, 1 + S + 3]
    values = wanted[body].double().reshape(-1) / _REACH
    pulls = torch.diag(
        torch.cat([torch.tensor([1 / _SIZE_REACH]), torch.ones(count), torch.zeros(3)]).double()
    )
    pulled = torch.zeros(count + 4).double()
    pulled[0] = 1 / _SIZE_REACH
    solution = torch.linalg.lstsq(torch.cat([rows, pulls]), torch.cat([values, pulled])).solution
    return (solution[1 : 1 + count] / solution[0]).float(), float(solution[0])
