# SPDX-License-Identifier: Apache-2.0
"""How alike two images are: PSNR and SSIM, over whole images and inside masks, differentiable.

SSIM is that of Wang et al. 2004 (Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03,
biased covariances), averaged over the pixels whose whole window lies inside the image and over the
colour channels. This is what scikit-image computes with gaussian_weights=True and
use_sample_covariance=False. Images are sRGB in 0..1.
"""

import hashlib
from pathlib import Path
from pickle import UnpicklingError

import torch
from crowdgaussian_shared.errors import DamagedFileError
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

WINDOW, SIGMA = 11, 1.5  # pixels
_C1, _C2 = 0.01**2, 0.03**2
_LEAST_ERROR = 1e-10  # equal images have 100 dB


def mse(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error per image; 0 where a mask is empty.

    Args:
        image: [B, H, W, 3], 0..1.
        truth: [B, H, W, 3].
        mask: pixels that count, [B, H, W] bool, or weights 0..1; None: all.

    Returns:
        # [B]
    """
    return _mean((image - truth).square().mean(-1), mask)


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio over whole images, decibels.  # [B, H, W, 3] twice -> [B]"""
    return -10 * mse(image, truth).clamp(min=_LEAST_ERROR).log10()


def masked_psnr(image: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Peak signal-to-noise ratio inside masks [B, H, W], decibels; NaN where one is empty.

    Over a whole image the error is diluted by the background: a person who fills the fraction f of
    it gains -10 log10 f decibels. Inside the mask that does not happen.
    """
    value = -10 * mse(image, truth, mask).clamp(min=_LEAST_ERROR).log10()
    return torch.where(mask.flatten(1).any(1), value, torch.nan)


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity over whole images, 1 for equal ones.  # [B, H, W, 3] twice -> [B]"""
    return ssim_map(image, truth).mean((1, 2))


def masked_ssim(image: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Structural similarity averaged over the pixels of masks [B, H, W]; NaN where one is empty.

    The windows are those of the whole image; pixels nearer than half a window to its edge do not
    count.
    """
    edge = WINDOW // 2
    inner = mask[:, edge:-edge, edge:-edge]
    value = _mean(ssim_map(image, truth), inner)
    return torch.where(inner.flatten(1).any(1), value, torch.nan)


def ssim_map(image: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each pixel whose window lies inside, mean over the channels.

    Args:
        image: [B, H, W, C], 0..1; H and W at least 11.
        truth: [B, H, W, C].

    Returns:
        # [B, H - 10, W - 10]
    """
    x, y = image.movedim(-1, 1), truth.movedim(-1, 1)  # [B, C, H, W]
    moments = torch.cat([x, y, x * x, y * y, x * y])
    mean_x, mean_y, square_x, square_y, cross = _blur(moments).chunk(5)
    var_x, var_y = square_x - mean_x**2, square_y - mean_y**2
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * (cross - mean_x * mean_y) + _C2) / (var_x + var_y + _C2)
    return (luminance * structure).mean(1)


def _blur(images: Tensor) -> Tensor:
    """Gaussian averages over whole windows only.  # [B, C, H, W] -> [B, C, H - 10, W - 10]"""
    at = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    kernel = torch.exp(-0.5 * (at / SIGMA) ** 2)
    kernel = kernel / kernel.sum()
    flat = images.flatten(0, 1)[None]  # [1, B C, H, W]; one group a picture is fastest
    count = flat.shape[1]
    rows = conv2d(flat, kernel.expand(count, 1, 1, WINDOW), groups=count)
    flat = conv2d(rows, kernel[:, None].expand(count, 1, WINDOW, 1), groups=count)
    return flat[0].reshape(*images.shape[:2], *flat.shape[2:])


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the pixels that count.  # [B, H, W] -> [B]"""
    if mask is None:
        return values.mean((1, 2))
    weights = mask.to(values.dtype)
    return (values * weights).sum((1, 2)) / weights.sum((1, 2)).clamp(min=1e-9)


# LPIPS (Zhang et al. 2018, version 0.1, VGG16): how different two images look to a network

BACKBONE_SHA256 = "397923af"  # its start, as in the name of torchvision's file
HEADS_SHA256 = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
_PLAN = (
    64,
    64,
    "tap",
    128,
    128,
    "tap",
    256,
    256,
    256,
    "tap",
    512,
    512,
    512,
    "tap",
    512,
    512,
    512,
    "tap",
)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPS = 1e-10


class Lpips(nn.Module):
    """The distance; make one with ``load_lpips`` or ``load_st_lpips``."""

    def __init__(self, shift_tolerant: bool = False) -> None:
        """shift_tolerant: pools as ST-LPIPS does."""
        super().__init__()
        blocks: list[nn.Sequential] = [nn.Sequential()]
        channels = [3]
        for entry in _PLAN:
            if isinstance(entry, str):  # "tap"
                halves = (
                    (nn.MaxPool2d(2, 1), BlurredHalf()) if shift_tolerant else (nn.MaxPool2d(2),)
                )
                blocks.append(nn.Sequential(*halves))
            else:
                blocks[-1] += nn.Sequential(nn.Conv2d(channels[-1], entry, 3, padding=1), nn.ReLU())
                channels.append(entry)
        self.blocks = nn.ModuleList(blocks[:-1])
        taps = [m.out_channels for b in blocks[:-1] for m in [b[-2]] if isinstance(m, nn.Conv2d)]
        self.heads = nn.ParameterList(torch.zeros(width) for width in taps)
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])

    shift: Tensor
    scale: Tensor

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """Distance of each pair, 0 for equal ones.  # [B, H, W, 3] sRGB 0..1 twice -> [B]"""
        return self.distance(*(self.taps(picture.movedim(-1, 1)) for picture in (image, truth)))

    def taps(self, images: Tensor) -> list[Tensor]:
        """What VGG16 has after relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3.

        Args:
            images: [B, 3, H, W] sRGB 0..1.

        Returns:
            # [B, C, h, w] each
        """
        hidden, found = (2 * images - 1 - self.shift) / self.scale, []
        for block in self.blocks:
            hidden = block(hidden)
            found.append(hidden)
        return found

    def distance(self, ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
        """Distance of each pair of pictures with these taps.  # [B]"""
        parts = []
        for x, y, head in zip(ours, theirs, self.heads, strict=True):
            apart = (_unit(x) - _unit(y)).square()  # [B, C, h, w]
            parts.append((apart * head[:, None, None]).sum(1).mean((1, 2)))
        return torch.stack(parts).sum(0)


def load_lpips(backbone: Path | None, heads: Path | None) -> tuple[Lpips | None, str]:
    """The distance, or None and one sentence that says why there is none.

    Args:
        backbone: torchvision's VGG16, None where it is not here.
        heads: vgg.pth of the lpips package, None where it is not here.
    """
    wanted = (
        (backbone, BACKBONE_SHA256, "torchvision's VGG16", "vgg16"),
        (heads, HEADS_SHA256, "its linear heads", "lpips-vgg-heads"),
    )
    for path, digest, what, name in wanted:
        if path is None or not path.is_file():
            return None, (
                f"not available: the file of {what} is not on this machine; run "
                f"`crowdgaussian weights fetch {name}`."
            )
        if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest):
            return None, f"not available: {path} is not the published file of {what}."
    assert backbone is not None and heads is not None  # or the loop has returned
    published = torch.load(backbone, map_location="cpu", weights_only=True)
    lines = torch.load(heads, map_location="cpu", weights_only=True)
    return _filled(Lpips(), published, "features.", lines), ""


def _filled(
    model: Lpips, published: dict[str, Tensor], start: str, lines: dict[str, Tensor]
) -> Lpips:
    """The distance with published weights, frozen.

    Args:
        model: to be filled.
        published: with the convolutions, in the order of VGG16, where names begin with `start`.
        start: of these names.
        lines: with the heads.
    """
    convolutions = [m for m in model.blocks.modules() if isinstance(m, nn.Conv2d)]
    places = [
        name[:-7] for name in published if name.startswith(start) and name.endswith(".weight")
    ]
    for layer, place in zip(convolutions, places, strict=True):
        layer.load_state_dict({part: published[f"{place}.{part}"] for part in ("weight", "bias")})
    for index, head in enumerate(model.heads):
        head.data = lines[f"lin{index}.model.1.weight"].flatten()
    return model.eval().requires_grad_(False)


def _unit(features: Tensor) -> Tensor:
    """Each pixel's features at length one.  # [B, C, h, w]"""
    return features / (features.square().sum(1, keepdim=True).sqrt() + _EPS)


# ST-LPIPS (Ghildyal & Liu, ECCV 2022): a VGG16 whose pooling minds shifts less, with its own
# weights and heads. It is not LPIPS, whose numbers are others, and is never called so

_BINOMIAL = (1.0, 2.0, 1.0)  # the filter of 3 taps that blurs before every second place is kept


class BlurredHalf(nn.Module):
    """Half the size: a 3 x 3 binomial blur, then every second place (Zhang 2019)."""

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, about H / 2 + 1, about W / 2 + 1]"""
        taps = images.new_tensor(_BINOMIAL) / sum(_BINOMIAL)
        kernel = (taps[:, None] * taps).expand(images.shape[1], 1, 3, 3)
        wide = pad(images, (2, 2, 2, 2), mode="reflect")
        return conv2d(wide, kernel, stride=2, groups=images.shape[1])


def load_st_lpips(path: Path) -> Lpips:
    """The shift-tolerant distance.

    Args:
        path: vgg_shift_tolerant.pth of the package stlpips_pytorch, checked by its hash.

    Raises:
        DamagedFileError: it holds something else.
    """
    try:
        published = torch.load(path, map_location="cpu", weights_only=True)
        return _filled(Lpips(shift_tolerant=True), published, "net.slice", published)
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, UnpicklingError) as error:
        raise DamagedFileError(f"{path} cannot be read as ST-LPIPS's VGG16.") from error
