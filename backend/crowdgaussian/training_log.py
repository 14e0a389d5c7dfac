# SPDX-License-Identifier: Apache-2.0
"""What trainings of any network leave to look at: TensorBoard's curves and sample pictures."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter


def open_log(out: Path, step: int) -> "SummaryWriter":
    """TensorBoard's file in OUT/tensorboard, without what came after `step`.

    Raises:
        CrowdGaussianError: TensorBoard is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise CrowdGaussianError("Training needs TensorBoard; install it with "
                                 "`pip install crowdgaussian[networks,train]`.") from error
    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)


def log_samples(log: "SummaryWriter", out: Path, step: int, picture: np.ndarray) -> None:
    """A sample grid [H, W, 3] uint8 into OUT/samples and into the log."""
    path = out / "samples" / f"step_{step:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    log.add_image("samples", picture, step, dataformats="HWC")


def require_finite(loss: "Tensor", step: int) -> None:
    """Raises CrowdGaussianError when a step's loss is no number."""
    if not loss.isfinite():
        raise CrowdGaussianError(f"The loss of step {step} is no number; go on from the "
                                 "last checkpoint with a lower learning rate (--lr).")
