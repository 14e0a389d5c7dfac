# SPDX-License-Identifier: Apache-2.0
"""CrowdRefiner on SD-Turbo: encode, one denoising step at timestep 199, decode.

The encoder is frozen; the UNet, the PoseNet, LoRA in the decoder and the skips from encoder to
decoder are trained. After Difix3D+ (Wu et al. 2025) and img2img-turbo (Parmar et al. 2024).
"""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from ..types import TURBO_VIEW
from .tiling import INPUTS, check_input, drop_normals, tiled

# One denoising step in closed form: x0 = (z - sqrt(1 - a) eps) / sqrt(a)

TIMESTEP = 199
_BETA_START, _BETA_END, _STEPS = 0.00085, 0.012, 1000
SCHEDULE = {  # in the words of diffusers' schedulers
    "prediction_type": "epsilon",
    "beta_schedule": "scaled_linear",
    "beta_start": _BETA_START,
    "beta_end": _BETA_END,
    "num_train_timesteps": _STEPS,
}


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


# PoseNet: the normals of the bodies as a bias on the diffusion network's first features

_WIDTHS = (16, 32, 96, 256)


class PoseNet(nn.Module):
    """[B, 4, H, W] -> [B, channels, H / 8, W / 8]."""

    def __init__(self, channels: int = 320) -> None:
        """channels: of the features it is added to."""
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(INPUTS, _WIDTHS[0], 3, padding=1), nn.SiLU()]
        for narrow, wide in zip(_WIDTHS[:-1], _WIDTHS[1:]):
            layers += [
                nn.Conv2d(narrow, narrow, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(narrow, wide, 3, padding=1, stride=2),
                nn.SiLU(),
            ]
        self.stem = nn.Sequential(*layers)
        self.out = nn.Conv2d(_WIDTHS[-1], channels, 3, padding=1)
        for start in self.out.parameters():
            nn.init.zeros_(start)

    def forward(self, normals: Tensor) -> Tensor:
        """normals: [B, 4, H, W], H and W multiples of 8."""
        return self.out(self.stem(normals))


_SKIP_START = 1e-5  # the skips begin as good as absent


@dataclass(frozen=True)
class TurboConfig:
    """What of the network is used."""

    rank: int = 4  # of LoRA in the VAE's decoder
    alpha: int = 4  # its changes count alpha / rank times; Difix has 8, peft's own default
    skips: bool = False  # from the VAE's encoder to its decoder
    normals: bool = True  # False: the ablation that sees no normals
    tile: int = 512  # pixels
    overlap: int = 64  # pixels


class TurboRefiner(nn.Module):
    """SD-Turbo, or SD 2.1-base, as a Refiner."""

    trained_at = TURBO_VIEW
    prompt: Tensor  # [1, 77, D]

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        prompt: Tensor,
        config: TurboConfig = TurboConfig(),
    ) -> None:
        """Takes the networks over.

        Args:
            vae: frozen but for LoRA in its decoder, as add_decoder_lora leaves it.
            unet: its noise prediction network.
            prompt: [1, 77, D] embedding of the fixed prompt; the text encoder is not needed.
            config: what is used.
        """
        super().__init__()
        self.config, self.vae, self.unet = config, vae, unet
        self.register_buffer("prompt", prompt)
        self.posenet = PoseNet(unet.config.block_out_channels[0])
        self.skips = _skip_convolutions(vae) if config.skips else None

    def forward(self, images: Tensor, normals: Tensor) -> Tensor:
        """As refine, but not cut to tiles and not clamped; sides must be multiples of 8."""
        if not images.is_cuda:  # convolutions on a CPU are up to a fifth faster so
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            z, features = self.encode(images * 2 - 1)
        noise = self.predict_noise(z, normals)
        return (self.decode(predicted_x0(z, noise), features) + 1) / 2

    @torch.no_grad()
    def refine(self, images: Tensor, normals: Tensor) -> Tensor:
        """As Refiner.

        Raises:
            CrowdGaussianError: see check_input; or not enough memory for even a small tile.
        """
        check_input(images, normals)
        device = "cuda" if images.is_cuda else "cpu"  # where bfloat16 is slower than float32
        with torch.autocast(device, torch.bfloat16, enabled=images.is_cuda):
            return (
                tiled(self, images, normals, self.config.tile, self.config.overlap)
                .float()
                .clamp(0, 1)
            )

    def encode(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The latent's mean, scaled, and what goes into each down block.

        Args:
            images: [B, 3, H, W] in -1..1.
        """
        encoder, features = self.vae.encoder, []
        hidden = encoder.conv_in(images)
        for block in encoder.down_blocks:
            features.append(hidden)
            hidden = block(hidden)
        hidden = encoder.conv_act(encoder.conv_norm_out(encoder.mid_block(hidden)))
        moments = encoder.conv_out(hidden)
        if self.vae.quant_conv is not None:
            moments = self.vae.quant_conv(moments)
        return moments.chunk(2, dim=1)[0] * self.vae.config.scaling_factor, features

    def predict_noise(self, z: Tensor, normals: Tensor) -> Tensor:
        """The UNet's answer at timestep 199, with the PoseNet added after its first layer."""
        pose = self.posenet(normals if self.config.normals else drop_normals(normals))
        hook = self.unet.conv_in.register_forward_hook(lambda layer, given, out: out + pose)
        try:
            steps = torch.full((len(z),), TIMESTEP, device=z.device)
            return self.unet(z, steps, self.prompt.expand(len(z), -1, -1)).sample
        finally:
            hook.remove()

    def decode(self, z: Tensor, features: list[Tensor]) -> Tensor:
        """Latent -> picture in -1..1, with the skips where they are used."""
        decoder = self.vae.decoder
        z = z / self.vae.config.scaling_factor
        if self.vae.post_quant_conv is not None:
            z = self.vae.post_quant_conv(z)
        hidden = decoder.mid_block(decoder.conv_in(z))
        for index, block in enumerate(decoder.up_blocks):
            if self.skips is not None:
                hidden = hidden + self.skips[index](features[-1 - index])
            hidden = block(hidden)
        return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(hidden)))


def _skip_convolutions(vae: AutoencoderKL) -> nn.ModuleList:
    """1 x 1 convolutions from the input of each down block to that of its opposite up block."""
    widths = list(vae.config.block_out_channels)
    sources = [widths[0], *widths[:-1]]  # what the encoder feeds into its down blocks
    targets = [widths[-1], *reversed(widths[1:])]  # what the decoder feeds into its up blocks
    convolutions = [
        nn.Conv2d(source, target, 1, bias=False)
        for source, target in zip(reversed(sources), targets)
    ]
    for convolution in convolutions:
        nn.init.constant_(convolution.weight, _SKIP_START)
    return nn.ModuleList(convolutions)


# LoRA in the VAE's decoder (peft); the rest of the VAE stays as it was published

_LAYERS = r"conv1|conv2|conv_in|conv_shortcut|conv|conv_out|to_q|to_k|to_v|to_out\.0"
TARGETS = rf"decoder\.(.*\.)?({_LAYERS})"


def add_decoder_lora(vae: AutoencoderKL, config: TurboConfig) -> None:
    """Adds adapters to the decoder; everything else of the VAE is frozen."""
    vae.requires_grad_(False)
    vae.add_adapter(
        LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            init_lora_weights="gaussian",
            target_modules=TARGETS,
        )
    )


def lora_state(vae: AutoencoderKL) -> dict[str, Tensor]:
    """The adapters' tensors."""
    return get_peft_model_state_dict(vae)


def load_lora_state(vae: AutoencoderKL, state: dict[str, Tensor]) -> None:
    """Puts saved adapters back into a VAE that has them."""
    set_peft_model_state_dict(vae, state)
