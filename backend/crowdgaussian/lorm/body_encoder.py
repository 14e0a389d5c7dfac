# SPDX-License-Identifier: Apache-2.0
"""Body encoders: an image of the whole person -> tokens.

Sapiens-1B comes as a TorchScript file of its own and is never trained; the patch encoder is a small
vision transformer for configurations that train on a CPU.
"""

from pathlib import Path
from typing import Protocol

import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from torch import Tensor, nn

from .images import square

_MEAN, _DEVIATION = (0.4844, 0.4570, 0.4062), (0.2295, 0.2236, 0.2256)


class BodyEncoder(Protocol):
    """Images of people -> tokens."""

    def tokens(self, images: Tensor) -> Tensor:
        """# [B, 3, h, w] RGB 0..1 on white -> [B, T, C]"""
        ...


class SapiensEncoder(nn.Module):
    """Sapiens-1B (Khirodkar et al. 2024), pretrained, from Meta's TorchScript file.

    The file is read at the first image. Frozen, without gradient, in bfloat16 on CUDA.

    Args:
        path: sapiens_1b_epoch_173_torchscript.pt2, or any script with the same interface.
        image: side of the square the network sees, pixels.

    Raises:
        CrowdGaussianError: the file is missing.
    """

    def __init__(self, path: str | Path, image: int = 1024):
        super().__init__()
        self.path, self.image = Path(path), image
        if not self.path.is_file():
            raise CrowdGaussianError(
                f"The Sapiens file {self.path} is missing; get it with "
                "`crowdgaussian weights fetch sapiens-1b`."
            )
        self._script: tuple = ()  # a tuple keeps its tensors out of this module's state dict
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None],
                             persistent=False)

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """# [B, 3, h, w] RGB 0..1 on white -> [B, (image / 16)^2, 1536] float32"""
        device = self.mean.device
        normal = (square(images.float(), self.image).to(device) - self.mean) / self.deviation
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = self._loaded()(normal)
        features = output[0] if isinstance(output, tuple | list) else output
        return features.float().flatten(2).transpose(1, 2)

    def _loaded(self):
        if not self._script:
            try:
                script = torch.jit.load(self.path, map_location=self.mean.device)
            except (RuntimeError, ValueError, OSError) as error:
                raise CrowdGaussianError(
                    f"{self.path} cannot be read as a TorchScript file; fetch it again."
                ) from error
            for parameter in script.parameters():  # a script has no requires_grad_ of its own
                parameter.requires_grad_(False)
            self._script = (script.eval(),)
        return self._script[0]

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        if self._script and self._script[0] is not None:
            self._script[0]._apply(fn)
        return self


class PatchEncoder(nn.Module):
    """A small vision transformer, for tiny configurations.

    Args:
        size: (height, width) of the images it is made for; others are resized to it.
        patch: side of a patch, pixels; must divide both.
        width: channels of a token; a multiple of heads.
    """

    def __init__(self, size: tuple[int, int], patch: int, width: int, depth: int = 3,
                 heads: int = 4):
        super().__init__()
        if size[0] % patch or size[1] % patch:
            raise CrowdGaussianError(f"Patches of {patch} pixels do not tile {size} images.")
        self.size = size
        self.num_tokens = (size[0] // patch) * (size[1] // patch)
        self.embed = nn.Conv2d(3, width, patch, stride=patch)
        self.places = nn.Parameter(torch.randn(1, self.num_tokens, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0,
                                           activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(width),
                                            enable_nested_tensor=False)

    def tokens(self, images: Tensor) -> Tensor:
        """# [B, 3, h, w] RGB 0..1 -> [B, num_tokens, width]"""
        if tuple(images.shape[-2:]) != tuple(self.size):
            images = nn.functional.interpolate(images, size=self.size, mode="bilinear",
                                               antialias=True)
        embedded = self.embed(2 * images - 1).flatten(2).transpose(1, 2)
        return self.layers(embedded + self.places)
