# SPDX-License-Identifier: Apache-2.0
"""How many people go through the network at once, on which device, and in which precision."""

import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from torch import Tensor

from .config import LormConfig
from .decoder import Attributes
from .model import LormModel

_COPIES = 24  # float32 rows of the width alive in a block, estimated; too few only halve a batch
_SPARE = 0.7  # of the free memory
_MOST = 16  # people; more gain nothing


def choose_device(name: str) -> torch.device:
    """The device of that name, or a GPU where there is one for an empty name.

    Raises:
        CrowdGaussianError: there is no such device here.
    """
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CrowdGaussianError(
            f"There is no device '{name}' on this machine; leave lorm.device empty or use cpu."
        ) from error
    return device


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
        CrowdGaussianError: not even one person fits.
    """
    device = next(model.parameters()).device
    short = bfloat16 and device.type == "cuda"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=short):
            return model(bodies.to(device), heads.to(device))
    except torch.OutOfMemoryError as error:
        if len(bodies) == 1:
            raise CrowdGaussianError(
                "One person does not fit into the memory of the GPU; set lorm.device=cpu or use "
                "a GPU with more memory.") from error
    torch.cuda.empty_cache()
    half = len(bodies) // 2
    parts = [forward(model, bodies[some], heads[some], bfloat16)
             for some in (slice(half), slice(half, None))]
    return Attributes(*(torch.cat(values) for values in
                        zip(*(vars(part).values() for part in parts), strict=True)))
