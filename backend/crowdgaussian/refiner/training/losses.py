# SPDX-License-Identifier: Apache-2.0
"""What a refiner learns by: the losses (CrowdGaussian, equation 5), clean inputs, all settings.

L2, LPIPS, SSIM and Gram, each with a weight. Gram matrices (Gatys et al. 2016) are those of VGG16's
relu1_2, 2_2, 3_3, 4_3 and 5_3, for each sample alone, compared at the size that Difix3D+ gives them
(Wu et al. 2025), in float32; after a warm-up.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from crowdgaussian_shared.errors import MissingFileError, SettingError
from torch import Tensor, nn

from ...core.metrics import Lpips, load_lpips, load_st_lpips, ssim
from ...core.progress import setting
from ...core.training import TrainingConfig
from ...weights.catalogue import SHIFT_TOLERANT_VGG

_LAYER_WEIGHTS = (1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)  # of Difix3D+'s style loss
LPIPS, ST_LPIPS = "lpips", "st-lpips"
_TITLES = {LPIPS: "LPIPS", ST_LPIPS: "ST-LPIPS"}

# Makes Gram one of four terms: gradients of a blurred person through a VGG16 of random weights are
# L2 1e-4, SSIM 1e-3, LPIPS 1e-3 and Gram 1 to 6 without a weight (docs/training.md).
GRAM_WEIGHT = 5e-4


@dataclass(frozen=True)
class RefinerLossWeights:
    """How much each term counts; 0 leaves it out."""

    l2: float = setting(1.0, "squared difference of 0..1; 4 is Difix's 1, whose pictures are -1..1")
    lpips: float = setting(1.0, "LPIPS")
    ssim: float = setting(0.2, "SSIM")
    gram: float = setting(GRAM_WEIGHT, "Gram matrices; Difix has 1, where nothing else counts")
    gram_after: int = setting(2000, "steps without Gram, until pictures look alike")
    lpips_after: int = setting(0, "steps without LPIPS, which takes most of a step on a CPU")
    perceptual: str = LPIPS  # whose VGG16 the terms lpips and gram look through: or ST_LPIPS

    def __post_init__(self) -> None:
        if self.perceptual not in _TITLES:
            raise SettingError(f"The perceptual loss is one of: {', '.join(_TITLES)}.")
        weights = (self.l2, self.lpips, self.ssim, self.gram)
        if not all(0 <= weight < math.inf for weight in weights) or self._first < 0:
            raise SettingError("The weights of losses must be 0 or above.")
        if not any(weights):
            raise SettingError("A training needs a loss; give one of them a weight above 0.")

    @property
    def _first(self) -> int:
        return min(self.gram_after, self.lpips_after)

    @property
    def needs_vgg(self) -> bool:
        """Whether a term needs VGG16's weights."""
        return self.lpips > 0 or self.gram > 0

    def without_vgg(self) -> "RefinerLossWeights":
        """The same without the terms that need VGG16."""
        return replace(self, lpips=0.0, gram=0.0)

    def in_words(self) -> str:
        """What a log and a model card say of them."""
        title = _TITLES[self.perceptual]
        style = "Gram" if self.perceptual == LPIPS else f"Gram of {title}'s VGG16"
        names = {"L2": self.l2, title: self.lpips, "SSIM": self.ssim, style: self.gram}
        used = ", ".join(f"{weight:g} x {name}" for name, weight in names.items() if weight)
        if self.gram:
            used += f" after {self.gram_after} steps"
        if self.lpips and self.lpips_after:
            used += f", {title} after {self.lpips_after}"
        return used if self.needs_vgg else f"{used}; trained without VGG16"


class RefinerLoss(nn.Module):
    """The weighted sum, and its terms by name."""

    def __init__(self, weights: RefinerLossWeights, perception: Lpips | None = None) -> None:
        """Takes the frozen network of the perceptual terms.

        Args:
            weights: of the terms.
            perception: VGG16 with heads, needed where weights.needs_vgg.
        """
        super().__init__()
        self.weights, self.perception = weights, perception

    def forward(self, found: Tensor, wanted: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        """found, wanted: [B, 3, H, W] 0..1; step: how many were made before this one."""
        w = self.weights
        terms = {"l2": w.l2 * (found - wanted).square().mean()}
        if w.ssim:
            similar = ssim(found.permute(0, 2, 3, 1), wanted.permute(0, 2, 3, 1))
            terms["ssim"] = w.ssim * (1 - similar).mean()
        with_gram = w.gram > 0 and step >= w.gram_after
        with_lpips = w.lpips > 0 and step >= w.lpips_after
        if with_lpips or with_gram:
            if self.perception is None:
                raise ValueError("a term of the loss lacks the network it compares with")
            with torch.autocast(found.device.type, enabled=False):
                ours, theirs = (self.perception.taps(each.float()) for each in (found, wanted))
                if with_lpips:
                    distance = self.perception.distance(ours, theirs).mean()
                    terms[w.perceptual] = w.lpips * distance
                if with_gram:
                    terms["gram"] = w.gram * gram_distance(ours, theirs)
        first, *rest = terms.values()
        return sum(rest, first), {name: float(value.detach()) for name, value in terms.items()}


def gram_distance(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Difference of Gram matrices over layers, each sample on its own, as large as in Difix3D+.

    Of a layer with raw sums G [C, C] over H W places: its weight times mean((G - G*)^2) / (C H W).

    Args:
        ours: activations of VGG16's five layers.  # [B, C, H, W] float32 each
        theirs: the same of what is wanted.
    """
    parts = [
        weight * a[0].numel() * (gram(a) - gram(b)).square().mean()
        for weight, a, b in zip(_LAYER_WEIGHTS, ours, theirs, strict=True)
    ]
    return torch.stack(parts).sum()


def gram(activations: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, C], divided by C H W so that no picture size overflows."""
    flat = activations.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


# The losses that need VGG16, from its published files, or a clear sentence why there are none


def refiner_loss(
    weights: RefinerLossWeights, backbone: Path | None, heads: Path | None
) -> RefinerLoss:
    """The loss of a training with the frozen network that its terms need.

    Args:
        weights: of the terms.
        backbone: torchvision's VGG16, None where it is not here.
        heads: of LPIPS, None where they are not here.

    Raises:
        MissingFileError: a term needs a file that is not here.
        DamagedFileError: the file of ST-LPIPS is another one.
    """
    if not weights.needs_vgg:
        return RefinerLoss(weights)
    if weights.perceptual == ST_LPIPS:
        return RefinerLoss(weights, load_st_lpips(SHIFT_TOLERANT_VGG.checked_path()[0]))
    lpips, reason = load_lpips(backbone, heads)
    if lpips is None:
        raise MissingFileError(
            f"The losses LPIPS and Gram are {reason.rstrip('.')}, or train with --without-vgg, "
            f"or with --perceptual {ST_LPIPS}."
        )
    return RefinerLoss(weights, lpips)


# Self-Calibrated Learning: some inputs are clean already, so that the network learns restraint


@dataclass(frozen=True)
class CalibrationConfig:
    """How often inputs are clean."""

    clean: float = setting(0.3, "share of inputs that are clean already")
    half_clean: float = setting(0.0, "share of inputs that are clean in part")

    def __post_init__(self) -> None:
        if min(self.clean, self.half_clean) < 0 or not self.clean + self.half_clean <= 1:
            raise SettingError(
                "The shares of clean and of half-clean inputs must be 0 or "
                "above and at most 1 together."
            )


def calibrate(
    coarse: Tensor, clean: Tensor, config: CalibrationConfig, generator: torch.Generator
) -> Tensor:
    """The training input: coarse, clean, or clean in part, drawn for each sample.

    Args:
        coarse: [B, 3, H, W].
        clean: [B, 3, H, W], the targets.
        config: the probabilities.
        generator: on the CPU.
    """
    draw = torch.rand(len(coarse), generator=generator)
    mix = torch.zeros(len(coarse), 1, *coarse.shape[2:])
    for index, value in enumerate(draw.tolist()):
        if value < config.clean:
            mix[index] = 1.0
        elif value < config.clean + config.half_clean:
            mix[index, 0] = _half(coarse.shape[2], coarse.shape[3], generator)
    mix = mix.to(coarse)
    return coarse + mix * (clean - coarse)


def _half(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A soft-edged half-plane through a random point.  # [H, W] 0..1"""
    angle, y, x, soft = torch.rand(4, generator=generator).tolist()
    direction = torch.tensor([torch.pi * 2 * angle])
    rows = torch.arange(height)[:, None] - y * height
    columns = torch.arange(width)[None] - x * width
    along = rows * direction.sin() + columns * direction.cos()
    return torch.sigmoid(along / (1.0 + soft * 0.1 * width))


# What is usual with ST-LPIPS: its gradient on coarse views of crowds is 0.33, L2's 0.002 and SSIM's
# 0.05 without weights, Gram's 13,000 (128 pixels). So they have 57, 3, 18 and 22 % of the sum.
WITH_ST_LPIPS = {"lpips": 0.1, "gram": 1e-6, "perceptual": ST_LPIPS}
WITH_BASE = {"lr": 2e-5, "crop": 512}  # what is usual for a network on Stable Diffusion


@dataclass(frozen=True)
class RefinerTraining(TrainingConfig):
    """How to train; steps and batch are the paper's."""

    batch: int = setting(2, "crops of a step in each process")
    lr: float = setting(1e-3, "learning rate; with --base 2e-5")
    crop: int = setting(128, "side of what the network sees at once, pixels; with --base 512")
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    losses: RefinerLossWeights = field(default_factory=RefinerLossWeights)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop < 32:
            raise SettingError("Crops of a training must have at least 32 pixels a side.")
