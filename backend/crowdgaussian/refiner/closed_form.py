# SPDX-License-Identifier: Apache-2.0
"""One denoising step in closed form: x0 = (z - sqrt(1 - a) eps) / sqrt(a).

a is the cumulative product of 1 - beta of Stable Diffusion's scaled-linear schedule (Rombach et al.
2022); at timestep 199 it is 0.755238, so that x0 = 1.15069 z - 0.56928 eps. (Difix3D+, Wu et al.
2025, chose that timestep: little enough noise to keep the picture.)
"""

import torch
from torch import Tensor

TIMESTEP = 199
_BETA_START, _BETA_END, _STEPS = 0.00085, 0.012, 1000
SCHEDULE = {  # in the words of diffusers' schedulers
    "prediction_type": "epsilon", "beta_schedule": "scaled_linear", "beta_start": _BETA_START,
    "beta_end": _BETA_END, "num_train_timesteps": _STEPS}


def cumulative_alpha(timestep: int = TIMESTEP) -> float:
    """a at a timestep, 0..999."""
    betas = torch.linspace(_BETA_START**0.5, _BETA_END**0.5, _STEPS, dtype=torch.float64) ** 2
    return float((1 - betas).cumprod(dim=0)[timestep])


def predicted_x0(z: Tensor, eps: Tensor, timestep: int = TIMESTEP) -> Tensor:
    """The clean latent of a noisy one and its predicted noise."""
    a = cumulative_alpha(timestep)
    return (z - (1 - a) ** 0.5 * eps) / a**0.5


def identity_eps(z: Tensor, timestep: int = TIMESTEP) -> Tensor:
    """The noise prediction that gives z back: 0.26470 z at timestep 199."""
    a = cumulative_alpha(timestep)
    return z * ((1 - a**0.5) / (1 - a) ** 0.5)
