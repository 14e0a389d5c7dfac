# SPDX-License-Identifier: Apache-2.0
"""What refiners' tests stand on: a tiny Stable Diffusion folder, and pairs drawn without bodies."""

import json

import numpy as np
import torch
from crowdgaussian.refiner.networks.sd_turbo import TurboConfig, TurboRefiner, add_decoder_lora
from diffusers import AutoencoderKL, EulerDiscreteScheduler, PNDMScheduler, UNet2DConditionModel
from PIL import Image

WIDTH = 32  # of the prompt


def small_networks(width=WIDTH):
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 32, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return vae, unet


def write_stable_diffusion(folder, turbo=True, prediction="epsilon", half=False):
    """SD-Turbo's folder, or SD 2.1-base's, with tiny random networks."""
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            vocab_size=600,
        )
    )
    for name, network in zip(("vae", "unet", "text_encoder"), (*small_networks(), text)):
        (network.half() if half else network).save_pretrained(folder / name)
    kind = EulerDiscreteScheduler if turbo else PNDMScheduler
    kind(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    _write_tokenizer(folder / "tokenizer")


def _write_tokenizer(place):
    letters = ["!", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = letters + [f"{letter}</w>" for letter in letters]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    place.mkdir()
    (place / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(vocabulary)}))
    (place / "merges.txt").write_text("#version: 0.2\n")
    (place / "special_tokens_map.json").write_text("{}")
    (place / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "model_max_length": 77,
                "pad_token": "!",
                "bos_token": "<|startoftext|>",
                "eos_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>",
                "tokenizer_class": "CLIPTokenizer",
            }
        )
    )


def write_pairs(folder, scenes=2, views=2, size=48, coarse="damage", people=""):
    """Training scenes as `data crowd-scenes` leaves them, but their pictures show only noise."""
    rng = np.random.default_rng(0)
    for index in range(scenes):
        scene = folder / f"scene_{index:04d}"
        for kind in ("truth", "coarse", "normals"):
            (scene / kind).mkdir(parents=True)
            for view in range(views):
                pixels = rng.integers(0, 256, (size, size, 4), np.uint8)
                Image.fromarray(pixels).save(scene / kind / f"{view:03d}.png")
        settings = {"views": views, "size": size} | ({"people": people} if people else {})
        (scene / "scene.json").write_text(
            json.dumps({"split": "train", "settings": settings, "coarse": coarse})
        )
    return folder


def small_refiner(**changes):
    vae, unet = small_networks()
    config = TurboConfig(**changes)
    add_decoder_lora(vae, config)
    return TurboRefiner(vae, unet, torch.randn(1, 77, WIDTH), config)


def pictures(height=32, width=48, count=1):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.rand(count, 3, height, width, generator=generator),
        torch.rand(count, 4, height, width, generator=generator),
    )
