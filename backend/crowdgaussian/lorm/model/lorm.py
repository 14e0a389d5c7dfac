# SPDX-License-Identifier: Apache-2.0
"""LHM and LORM: an image of a person -> canonical Gaussians on a body model.

Submodules and parameters carry the published checkpoint's names (encoder, pcl_embed, transformer,
renderer, motion_embed_mlp); the body encoder is a file of its own there. Formulae: Qiu et al. 2025
(LHM, arXiv 2503.10625), section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from crowdgaussian_shared.errors import InputError
from torch import Tensor, nn

from ...splat.cameras import Cameras
from ...splat.rasterize import rasterize
from ...splat.splats import Render, Splats
from .config import LormConfig
from .encoders import BodyEncoder, HeadEncoder
from .posing import Attributes, CanonicalPerson, GaussianDecoder, Posing, canonical_person
from .query_points import PointEmbedding, QueryPoints
from .transformer import BodyHeadTransformer

# The parts of the network that a checkpoint holds, under the published names


class LormNetwork(nn.Module):
    """encoder (head), pcl_embed, transformer, renderer and motion_embed_mlp, of any size."""

    def __init__(self, config: LormConfig):
        super().__init__()
        self.encoder = HeadEncoder(config.head_encoder)
        self.pcl_embed = PointEmbedding(config.width, config.frequencies)
        self.transformer = BodyHeadTransformer(config)
        self.renderer = GaussianDecoder(config)
        self.motion_embed_mlp = nn.Sequential(
            nn.Linear(config.cond_dim, config.motion_hidden),
            nn.SiLU(),
            nn.Linear(config.motion_hidden, 2 * config.width),
        )


@dataclass(frozen=True)
class Tokens:
    """What the encoders say about B people."""

    body: Tensor  # [B, T, cond_dim]
    head: Tensor  # [B, S, width of the head encoder]

    def to(self, *args: Any) -> "Tokens":
        """As Tensor.to."""
        return Tokens(self.body.to(*args), self.head.to(*args))


class LormModel(LormNetwork):
    """The whole network.

    Args:
        config: its sizes.
        points: where on the body the Gaussians start.
        body_encoder: images -> body tokens; None where tokens are given.

    Attributes:
        config, posing; encoder (head), pcl_embed, transformer, renderer, motion_embed_mlp.
    """

    def __init__(
        self, config: LormConfig, points: QueryPoints, body_encoder: BodyEncoder | None = None
    ):
        if len(points) != config.num_points:
            raise InputError(
                f"The network has {config.num_points} points but {len(points)} were given."
            )
        if config.head_encoder.width > config.cond_dim:
            raise InputError(
                f"Body tokens of {config.cond_dim} channels cannot hold head tokens of "
                f"{config.head_encoder.width}; make cond_dim at least the head encoder's width."
            )
        super().__init__(config)
        self.config, self.mesh = config, points.mesh
        self.body_encoder = body_encoder
        with torch.device(points.template.device):  # real, even in a model on the meta device
            self.posing = Posing(points)

    def encode(self, body_images: Tensor, head_images: Tensor) -> Tokens:
        """Tokens of people.

        Args:
            body_images: [B, 3, h, w] RGB 0..1, white background.
            head_images: [B, 3, s, s] RGB 0..1.

        Raises:
            InputError: the model was made without a body encoder.
        """
        if self.body_encoder is None:
            raise InputError("This model has no body encoder; load it with the Sapiens file.")
        return Tokens(self.body_encoder.tokens(body_images), self.encoder(head_images))

    def attributes(self, tokens: Tokens) -> Attributes:
        """What each point looks like; float32 whatever the autocast.

        Raises:
            InputError: tokens of another shape than the network's.
        """
        self._check(tokens)
        dtype = self.transformer.linear_cond_proj.weight.dtype
        body, head = tokens.body.to(dtype), tokens.head.to(dtype)
        motion = self.motion_embed_mlp(body.mean(dim=1))
        head = nn.functional.pad(head, (0, body.shape[-1] - head.shape[-1]))
        points = self.pcl_embed(self.posing.query).expand(len(body), -1, -1)
        features = self.transformer(points, torch.cat([body, head], dim=1), motion)
        with torch.autocast(features.device.type, enabled=False):
            return self.renderer(features, self.posing.upper_body)

    def forward(self, body_images: Tensor, head_images: Tensor) -> Attributes:
        """Encode, then decode."""
        return self.attributes(self.encode(body_images, head_images))

    def gaussians(
        self, attributes: Attributes, betas: Tensor, pose: Tensor, transl: Tensor
    ) -> list[Splats]:
        """Posed Gaussians of each person; see Posing.forward for arguments and errors."""
        return self.posing.splats(attributes, betas, pose, transl)

    def canonical(
        self,
        attributes: Attributes,
        index: int,
        betas: Tensor,
        pose: Tensor | None = None,
        scale: float = 1.0,
    ) -> CanonicalPerson:
        """One person as Blender and the scene folder want them; see canonical_person."""
        return canonical_person(
            self.posing, self.mesh, attributes.person(index), betas, pose, scale
        )

    def _check(self, tokens: Tokens) -> None:
        config, body, head = self.config, tuple(tokens.body.shape), tuple(tokens.head.shape)
        wanted = (config.body_tokens, config.cond_dim)
        if body[1:] != wanted:
            raise InputError(
                f"Body tokens have the shape {body[1:]} where the network wants {wanted}."
            )
        if head[0] != body[0] or head[-1] > config.cond_dim:
            raise InputError(
                f"Head tokens of shape {head} do not go with body tokens of shape {body}."
            )


def render_white(splats: Splats, cameras: Cameras) -> Render:
    """Renders on white, as the published model is trained; differentiable."""
    device = splats.means.device
    return rasterize(splats, cameras.to(device), torch.ones(3, device=device))


def render_people(
    model: LormModel,
    attributes: Attributes,
    bodies: Sequence[tuple[Tensor, Tensor]],
    cameras: Sequence[Cameras],
) -> list[Tensor]:
    """Views of posed people who stand at the origin, in float32.  # [V, S, S, 3] each

    Args:
        model: the network.
        attributes: of B people.
        bodies: betas [S] and pose [55, 3] of each.
        cameras: the views of each.
    """
    betas, pose = (torch.stack(values) for values in zip(*bodies, strict=True))
    with torch.autocast(betas.device.type, enabled=False):
        splats = model.gaussians(attributes, betas, pose, betas.new_zeros(len(betas), 3))
        return [
            render_white(each, views).color.clamp(max=1.0)
            for each, views in zip(splats, cameras, strict=True)
        ]
