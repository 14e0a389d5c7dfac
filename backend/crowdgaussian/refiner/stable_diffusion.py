# SPDX-License-Identifier: Apache-2.0
"""SD-Turbo, or SD 2.1-base, as diffusers saves it: networks, the prompt's embedding, licences."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError
from torch import Tensor, nn

from ..people.pretrained import load_pretrained
from .closed_form import SCHEDULE

PROMPT = "remove degradation"  # Difix3D+'s
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError)


@dataclass(frozen=True)
class StableDiffusion:
    """What a refiner starts from."""

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    prompt: Tensor  # [1, 77, D]


def read_stable_diffusion(folder: Path) -> StableDiffusion:
    """The networks of a folder; its text encoder is read for one prompt and dropped.

    Raises:
        CrowdGaussianError: a part is missing, damaged, or of another architecture.
    """
    missing = [name for name in _PARTS if not (folder / name).is_dir()]
    if missing:
        raise CrowdGaussianError(
            f"{folder} has no {missing[0]}/; give the folder of SD-Turbo as diffusers saves it "
            "(`crowdgaussian weights fetch sd-turbo`).")
    _check_schedule(folder / "scheduler" / "scheduler_config.json")
    prompt = _prompt(folder)
    vae, unet = read_networks(folder)
    if prompt.shape[-1] != unet.config.cross_attention_dim:
        raise _other_architecture(folder)
    return StableDiffusion(vae, unet, prompt)


def read_networks(folder: Path) -> tuple[AutoencoderKL, UNet2DConditionModel]:
    """vae/ and unet/ of a folder in float32, whatever precision the files have.

    Raises:
        CrowdGaussianError: one is missing, damaged, or of another architecture.
    """
    vae, unet = _whole(AutoencoderKL, folder / "vae"), _whole(UNet2DConditionModel, folder / "unet")
    if unet.config.in_channels != vae.config.latent_channels or len(
            vae.config.block_out_channels) != 4:
        raise _other_architecture(folder)
    return vae, unet


def _whole(kind: type[nn.Module], folder: Path) -> nn.Module:
    """A network all of whose tensors come from its folder, none made up at random."""
    try:
        network, told = kind.from_pretrained(folder, local_files_only=True,
                                             output_loading_info=True, torch_dtype=torch.float32)
        absent = sorted(told["missing_keys"])
    except _UNREADABLE as error:
        raise CrowdGaussianError(
            f"{folder} cannot be read as Stable Diffusion's {folder.name}/; get a whole copy."
        ) from error
    if absent:
        raise CrowdGaussianError(
            f"{folder} lacks {len(absent)} tensors, such as {absent[0]}; get a whole copy, or "
            "use SD-Turbo or SD 2.1-base.")
    return network


def _check_schedule(path: Path) -> None:
    """The one step in closed form is right for one way of predicting and one schedule only."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        found = {name: said.get(name, value) for name, value in SCHEDULE.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise CrowdGaussianError(
            f"{path} is missing or damaged; get a whole copy of the folder.") from error
    if found != SCHEDULE:
        odd = next(name for name in SCHEDULE if found[name] != SCHEDULE[name])
        raise CrowdGaussianError(
            f"{path} has {odd} {found[odd]} where a refiner needs {SCHEDULE[odd]}; use SD-Turbo "
            "or SD 2.1-base.")


@torch.no_grad()
def _prompt(folder: Path) -> Tensor:
    """The embedding of the fixed prompt.  # [1, 77, D]"""
    from transformers import CLIPTokenizer

    place = folder / "tokenizer"
    try:
        for name in ("vocab.json", "tokenizer_config.json"):  # the library tells less of damage,
            json.loads((place / name).read_text(encoding="utf-8"))
        (place / "merges.txt").read_text(encoding="utf-8")  # and goes on without this
        tokenizer = CLIPTokenizer.from_pretrained(place, local_files_only=True)
    except _UNREADABLE as error:
        raise CrowdGaussianError(
            f"{place} cannot be read as CLIP's; get a whole copy.") from error
    encoder = load_pretrained("CLIPTextModel", folder / "text_encoder").float()
    words = tokenizer(PROMPT, padding="max_length", max_length=tokenizer.model_max_length,
                      truncation=True, return_tensors="pt")
    return encoder(words.input_ids)[0]


def _other_architecture(folder: Path) -> CrowdGaussianError:
    return CrowdGaussianError(
        f"{folder} holds networks of another architecture; use SD-Turbo or SD 2.1-base.")
