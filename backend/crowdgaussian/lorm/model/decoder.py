# SPDX-License-Identifier: Apache-2.0
"""The Gaussian decoder: point features -> offset, size, rotation, opacity and colour."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import LormConfig

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
