# SPDX-License-Identifier: Apache-2.0
"""From point features to posed Gaussians: the decoder, then un-pose, shape, linear blend skinning;
and to the avatar that Blender imports.

The network's canonical pose is the T-pose with both legs turned outwards by 20 degrees. Query
points and offsets live there; the steps are those of the published LHM (facts verified against its
outputs): no pose correctives, no expression, no scaling by the blended matrices.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import BodyMesh, Gaussians
from crowdgaussian_shared.geometry.sh import SH_C0
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, NUM_JOINTS
from torch import Tensor, nn

from ...core.device import float_array
from ...core.rotations import (
    axis_angle_to_matrix,
    blend_transforms,
    joint_transforms,
    matrices_to_quats,
    move_points,
    multiply_quats,
)
from ...splat.splats import Splats
from .config import LormConfig
from .query_points import QueryPoints, TemplateMesh

_OUTPUTS = {"shs": 3, "scaling": 3, "xyz": 3, "opacity": 1, "rotation": 4}
_EXP_LIMIT = 15.0


@dataclass(frozen=True)
class Attributes:
    """What the network says about each point of B people; float32."""

    offsets: Tensor  # [B, N, 3] metres from the query point, in the network's canonical pose
    scales: Tensor  # [B, N, 3] metres, standard deviations
    quats: Tensor  # [B, N, 4] wxyz, unit
    opacities: Tensor  # [B, N] 0..1
    rgb: Tensor  # [B, N, 3] sRGB 0..1, the same from every side

    def person(self, index: int) -> "Attributes":
        """One of the B people, still with a batch axis.  # [1, N, ...]"""
        return Attributes(*(value[index : index + 1] for value in vars(self).values()))


class _BoundedExp(torch.autograd.Function):
    """exp whose gradient does not overflow: backward uses exp(min(x, 15))."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * x.clamp(max=_EXP_LIMIT).exp()


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class _Outputs(nn.Module):
    """Linear heads, starting as faint, small, untilted Gaussians on the template."""

    def __init__(self, width: int):
        super().__init__()
        layers = {k: nn.Linear(width, n) for k, n in _OUTPUTS.items()}
        self.out_layers = nn.ModuleDict(layers)
        start = {"scaling": -5.0, "xyz": 0.0, "opacity": math.log(0.1 / 0.9), "rotation": 0.0}
        for name, bias in start.items():
            layer = layers[name]
            if name != "opacity":
                nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, bias)
        with torch.no_grad():
            layers["rotation"].bias[0] = 1.0

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: layer(x) for name, layer in self.out_layers.items()}


class GaussianDecoder(nn.Module):
    """The `renderer` part of the checkpoint, without its body model."""

    def __init__(self, config: LormConfig):
        super().__init__()
        self.scale_clip, self.upper_scale_clip = config.scale_clip, config.upper_scale_clip
        self.offset_range = config.offset_range
        self.mlp_net = _Mlp(config.width, config.decoder_hidden)
        self.gs_net = _Outputs(config.width)

    def forward(self, features: Tensor, upper_body: Tensor) -> Attributes:
        """Decodes.

        Args:
            features: [B, N, width].
            upper_body: [N] bool, the points whose size has the smaller limit.
        """
        features = features.to(next(self.mlp_net.parameters()).dtype)
        out = {k: v.float() for k, v in self.gs_net(self.mlp_net(features)).items()}
        scales = _BoundedExp.apply(out["scaling"]).clamp(0, self.scale_clip)
        limit = torch.where(upper_body, self.upper_scale_clip, math.inf)[:, None]  # [N, 1]
        return Attributes(
            offsets=(out["xyz"].sigmoid() - 0.5) * self.offset_range,
            scales=torch.minimum(scales, limit.to(scales)),
            quats=nn.functional.normalize(out["rotation"], dim=-1),
            opacities=out["opacity"].sigmoid()[..., 0],
            rgb=out["shs"].sigmoid(),
        )


_SPREAD = math.pi / 9  # of each leg, radians


class Posing(nn.Module):
    """Moves Gaussians with the body.

    Attributes:
        query: [N, 3] the query points in the network's canonical pose, the same for everybody.
        unpose: [N, 3, 4] what carries each point from there back to the T-pose.
        skin_weights, shape_dirs, upper_body, constrained: as QueryPoints has them.
        joints, joint_dirs: as its TemplateMesh has them.
    """

    query: Tensor
    unpose: Tensor
    skin_weights: Tensor
    shape_dirs: Tensor
    joints: Tensor
    joint_dirs: Tensor
    upper_body: Tensor
    constrained: Tensor

    def __init__(self, points: QueryPoints):
        super().__init__()
        mesh = points.mesh
        canonical = torch.zeros(1, NUM_JOINTS, 3)
        canonical[0, JOINT_INDEX["left_hip"], 2] = _SPREAD
        canonical[0, JOINT_INDEX["right_hip"], 2] = -_SPREAD
        turns, nowhere = axis_angle_to_matrix(canonical), torch.zeros(1, 3)
        there, joints = joint_transforms(mesh.joints[None], turns, nowhere)
        back, _ = joint_transforms(joints, turns.transpose(-1, -2), nowhere)
        buffers = {
            "query": move_points(blend_transforms(points.skin_weights, there[0]), points.template),
            "unpose": blend_transforms(points.skin_weights, back[0]),
            "skin_weights": points.skin_weights,
            "shape_dirs": points.shape_dirs,
            "joints": mesh.joints,
            "joint_dirs": mesh.joint_dirs,
            "upper_body": points.upper_body,
            "constrained": points.constrained,
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.clone(), persistent=False)

    def rest_joints(self, betas: Tensor) -> Tensor:
        """Joints of the shaped T-pose body.  # [B, S] -> [B, 55, 3]"""
        return self.joints + torch.einsum("jcs,bs->bjc", self.joint_dirs, betas)

    def t_pose(self, offsets: Tensor, betas: Tensor) -> Tensor:
        """Centres on the shaped T-pose body.  # [B, N, 3], [B, S] -> [B, N, 3]"""
        moved = move_points(self.unpose, self.query + offsets)
        return moved + torch.einsum("ncs,bs->bnc", self.shape_dirs, betas)

    def forward(
        self, attributes: Attributes, betas: Tensor, pose: Tensor, transl: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Posed centres and orientations, differentiable in everything.

        Args:
            attributes: of B people.
            betas: [B, S].
            pose: [B, 55, 3] axis-angle, radians; the first turns the body about its rest pelvis.
            transl: [B, 3] metres, added last.

        Returns:
            [B, N, 3] metres and [B, N, 4] wxyz, in the frame of pose and transl.

        Raises:
            InputError: betas, pose or transl hold a number that is not finite.
        """
        for name, value in (("betas", betas), ("pose", pose), ("transl", transl)):
            if not value.isfinite().all():
                raise InputError(
                    f"The {name} of a person holds values that are not numbers; "
                    "estimate that person again or leave them out."
                )
        with torch.autocast(betas.device.type, enabled=False):
            transforms, _ = joint_transforms(
                self.rest_joints(betas), axis_angle_to_matrix(pose), transl
            )
            affines = blend_transforms(self.skin_weights, transforms)  # [B, N, 3, 4]
            centres = move_points(affines, self.t_pose(attributes.offsets, betas))
            turns = matrices_to_quats(affines[..., :3] @ self.unpose[..., :3])
            still = turns.new_tensor([1.0, 0.0, 0.0, 0.0])
            turns = torch.where(self.constrained[:, None], still, turns)
            return centres, multiply_quats(turns, attributes.quats)

    def splats(
        self, attributes: Attributes, betas: Tensor, pose: Tensor, transl: Tensor
    ) -> list[Splats]:
        """The posed Gaussians of each person; arguments and errors as in forward."""
        centres, quats = self(attributes, betas, pose, transl)
        sh = ((attributes.rgb - 0.5) / SH_C0)[:, :, None]  # [B, N, 1, 3]
        return [
            Splats(
                means=centres[i],
                opacities=attributes.opacities[i],
                sh=sh[i],
                quats=quats[i],
                scales=attributes.scales[i],
            )
            for i in range(len(centres))
        ]


# From the network's output to the avatar that Blender imports. An avatar is posed by linear blend
# skinning with four weights a Gaussian. Its centres then are the network's own posed centres, but
# for the weights beyond the four largest. Two things cannot be equal: the network turns a Gaussian
# by a quaternion read off the blended matrix and never shears or scales it, skinning applies the
# blended matrix itself (they differ near bent joints only); and the network keeps the orientation
# of its `constrained` points fixed in space in every pose, which no skinning does, so their
# orientation is right in one pose, that of the photo or else the T-pose.


@dataclass(frozen=True)
class CanonicalPerson:
    """The parts of an Avatar that do not depend on pose and place."""

    gaussians: Gaussians  # N, T-pose, shaped by betas
    skin_joints: np.ndarray  # [N, 4] uint8
    skin_weights: np.ndarray  # [N, 4] float32, rows sum to 1
    rest_joints: np.ndarray  # [55, 3] float32, metres
    body: BodyMesh


@torch.no_grad()
def canonical_person(
    posing: Posing,
    mesh: TemplateMesh,
    attributes: Attributes,
    betas: Tensor,
    pose: Tensor | None = None,
    scale: float = 1.0,
) -> CanonicalPerson:
    """Gaussians on the shaped T-pose body.

    Args:
        posing: of the model.
        mesh: the template.
        attributes: of one person.
        betas: [S].
        pose: [55, 3] in which constrained Gaussians are to have the network's own orientation;
            the T-pose when None.
        scale: uniform, applied to everything about the canonical origin.
    """
    betas = betas.reshape(1, -1).to(posing.query)
    means = posing.t_pose(attributes.offsets, betas)[0] * scale
    turns = matrices_to_quats(posing.unpose[..., :3])
    if posing.constrained.any():
        turns = torch.where(posing.constrained[:, None], _counter_turns(posing, betas, pose), turns)
    gaussians = Gaussians(
        means=float_array(means),
        quats=float_array(multiply_quats(turns, attributes.quats[0])),
        scales=float_array(attributes.scales[0] * scale),
        opacities=float_array(attributes.opacities[0]),
        sh=float_array(((attributes.rgb[0] - 0.5) / SH_C0)[:, None]),
    )
    joints, weights = _four(posing.skin_weights)
    rest = posing.rest_joints(betas)[0] * scale
    return CanonicalPerson(gaussians, joints, weights, float_array(rest), _body(mesh, betas, scale))


def _counter_turns(posing: Posing, betas: Tensor, pose: Tensor | None) -> Tensor:
    """Turns that the given pose undoes.  # [N, 4] wxyz"""
    if pose is None:
        return posing.query.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(len(posing.query), 4)
    rotations = axis_angle_to_matrix(pose.reshape(1, -1, 3).to(posing.query))
    transforms, _ = joint_transforms(posing.rest_joints(betas), rotations, betas.new_zeros(1, 3))
    quats = matrices_to_quats(blend_transforms(posing.skin_weights, transforms[0])[..., :3])
    return quats * quats.new_tensor([1.0, -1.0, -1.0, -1.0])


def _body(mesh: TemplateMesh, betas: Tensor, scale: float) -> BodyMesh:
    shaped = mesh.vertices + torch.einsum("vcs,s->vc", mesh.shape_dirs, betas[0].cpu())
    joints, weights = _four(mesh.skin_weights)
    return BodyMesh(
        float_array(shaped * scale), mesh.faces.numpy().astype(np.int32), joints, weights
    )


def _four(skin_weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The four largest weights of each row, made to sum to one.  # [N, 4] uint8, [N, 4] float32"""
    top = skin_weights.topk(4, dim=1)
    shares = top.values / top.values.sum(dim=1, keepdim=True)
    return top.indices.cpu().numpy().astype(np.uint8), float_array(shares)
