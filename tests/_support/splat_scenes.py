# SPDX-License-Identifier: Apache-2.0
"""Random Gaussians and the comparison of the rasteriser with its plain twin."""

import torch
from crowdgaussian.core.rotations import blend_affines
from crowdgaussian.splat import Cameras, Render, Splats, rasterize
from crowdgaussian.splat.reference import rasterize_reference
from crowdgaussian.splat.splats import pose_splats

OUTPUTS = ("color", "alpha", "depth", "features")


def off_centre_cameras(n: int = 3) -> Cameras:
    """Views of the origin whose principal point is far off and whose size is no tile multiple."""
    return Cameras.orbit((0, 0, 0), 1.6, n, elevation=0.3, size=(45, 37)).crop(5, -3, 41, 50)


def random_splats(n: int, degree: int, by_covars: bool, seed: int = 0) -> dict[str, torch.Tensor]:
    """Float64 leaves that hold float32 numbers, so that both precisions start alike."""
    make = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=make, dtype=torch.float64)

    values = {
        "means": normal(n, 3) * 0.4,
        "sh": normal(n, (degree + 1) ** 2, 3) * 0.4,
        "opacities": torch.rand(n, generator=make, dtype=torch.float64) * 0.98 + 0.01,
    }
    if by_covars:
        factor = normal(n, 3, 3) * 0.05
        values["covars"] = factor @ factor.mT + 1e-4 * torch.eye(3)
        values["sh_frames"] = torch.linalg.qr(normal(n, 3, 3))[0]
    else:
        values |= {"quats": normal(n, 4), "scales": torch.exp(normal(n, 3) * 0.5 - 2.7)}
    return {name: value.float().double().requires_grad_() for name, value in values.items()}


def both_renders(
    values: dict[str, torch.Tensor],
    cameras: Cameras,
    background: torch.Tensor,
) -> tuple[tuple[Render, dict], tuple[Render, dict]]:
    """Render with the kernels and the twin, with three feature channels."""
    single = {k: v.detach().float().requires_grad_() for k, v in values.items()}
    features = torch.randn(len(values["means"]), 3, generator=torch.Generator().manual_seed(7))
    wide = features.double().requires_grad_()
    features.requires_grad_()
    ours = rasterize(Splats(**single), cameras, background, features)
    twin = rasterize_reference(Splats(**values), cameras, background, wide)
    return (ours, single | {"features": features}), (twin, values | {"features": wide})


def backward(render: Render) -> None:
    """One fixed random linear loss of everything a render holds."""
    make = torch.Generator().manual_seed(3)
    loss = 0.0
    for name in OUTPUTS:
        value = getattr(render, name)
        weights = torch.randn(value.shape, generator=make, dtype=torch.float64)
        loss = loss + (value * weights.to(value)).sum()
    loss.backward()


def skin_splats(splats, skin_joints, skin_weights, transforms):
    """Canonical Gaussians posed by linear blend skinning, in one call."""
    return pose_splats(splats, blend_affines(skin_joints, skin_weights, transforms))
