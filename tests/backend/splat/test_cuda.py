# SPDX-License-Identifier: Apache-2.0
"""gsplat on a GPU against the CPU kernels; runs only where both are."""

import pytest
import torch
from _support.splat_scenes import OUTPUTS, backward, off_centre_cameras, random_splats
from crowdgaussian.splat import Splats, rasterize

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no CUDA GPU; run this where there is one, gsplat has no CPU rasteriser",
)


@pytest.mark.parametrize("by_covars", [False, True])
@pytest.mark.parametrize("with_features", [False, True])
def test_gsplat_gives_what_the_cpu_kernels_give(by_covars: bool, with_features: bool) -> None:
    pytest.importorskip("gsplat", reason="gsplat is missing; pip install '.[cuda]'")
    values, renders, leaves = random_splats(150, 2, by_covars), {}, {}
    for device in ("cpu", "cuda"):
        moved = {k: v.detach().float().to(device).requires_grad_() for k, v in values.items()}
        features = moved["means"].detach().square() if with_features else None
        leaves[device] = moved
        renders[device] = rasterize(
            Splats(**moved),
            off_centre_cameras(),
            torch.tensor([0.2, 0.5, 0.9], device=device),
            features,
        )
    for name in OUTPUTS[: 4 if with_features else 3]:
        torch.testing.assert_close(
            getattr(renders["cuda"], name).cpu(), getattr(renders["cpu"], name), rtol=0, atol=1e-3
        )
    if with_features:
        for render in renders.values():
            backward(render)
        for name in ("means", "opacities", "sh"):
            expected = leaves["cpu"][name].grad
            torch.testing.assert_close(
                leaves["cuda"][name].grad.cpu(),
                expected,
                rtol=0,
                atol=1e-3 * float(expected.abs().max()),
            )
