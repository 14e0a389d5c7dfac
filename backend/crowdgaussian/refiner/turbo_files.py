# SPDX-License-Identifier: Apache-2.0
"""TurboRefiner from SD-Turbo's folder, and to and from a folder of its own.

Its own folder holds vae/ and unet/ as diffusers writes them, extras.safetensors (prompt, PoseNet,
LoRA, skips) and refiner.json. It is written beside and renamed when whole.
"""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .adapters import add_decoder_lora, load_lora_state, lora_state
from .turbo import TurboConfig, TurboRefiner

PROMPT = "remove degradation"  # Difix3D+'s
KIND = "crowdgaussian turbo refiner"
ABOUT, EXTRAS = "refiner.json", "extras.safetensors"
_PARTS = ("unet", "vae", "text_encoder", "tokenizer")


def from_stable_diffusion(folder: Path, config: TurboConfig) -> TurboRefiner:
    """A refiner that has learned nothing yet, from SD-Turbo or SD 2.1-base as diffusers saves it.

    The text encoder is read for one prompt and dropped.

    Raises:
        CrowdGaussianError: a part is missing, damaged, or of another architecture.
    """
    missing = [name for name in _PARTS if not (folder / name).is_dir()]
    if missing:
        raise CrowdGaussianError(
            f"{folder} has no {missing[0]}/; give the folder of SD-Turbo as diffusers saves it "
            "(`crowdgaussian weights fetch sd-turbo`).")
    vae, unet = _networks(folder)
    add_decoder_lora(vae, config.rank)
    return TurboRefiner(vae, unet, _prompt(folder), config)


def save_refiner(refiner: TurboRefiner, folder: Path) -> None:
    """Writes everything that load_refiner needs; an older folder stays until the new is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        new = Path(place) / "new"
        refiner.unet.save_pretrained(new / "unet")
        _save_vae(refiner.vae, new / "vae")
        save_file(_extras(refiner), new / EXTRAS)
        about = {"kind": KIND, "config": asdict(refiner.config)}
        (new / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
        if folder.exists():
            folder.rename(Path(place) / "old")
        new.rename(folder)


def load_refiner(folder: Path) -> TurboRefiner:
    """A refiner that save_refiner wrote.

    Raises:
        CrowdGaussianError: it is no such folder, damaged, or of another architecture.
    """
    config = _config(folder / ABOUT)
    vae, unet = _networks(folder)
    add_decoder_lora(vae, config.rank)
    try:
        extras = load_file(folder / EXTRAS)
        refiner = TurboRefiner(vae, unet, extras.pop("prompt"), config)
        load_lora_state(vae, _named(extras, "lora."))
        refiner.posenet.load_state_dict(_named(extras, "posenet."))
        if refiner.skips is not None:
            refiner.skips.load_state_dict(_named(extras, "skips."))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise CrowdGaussianError(
            f"{folder / EXTRAS} is damaged or belongs to another refiner; get a whole copy."
        ) from error
    return refiner


def _networks(folder: Path) -> tuple[AutoencoderKL, UNet2DConditionModel]:
    try:
        vae = AutoencoderKL.from_pretrained(folder / "vae", local_files_only=True)
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise CrowdGaussianError(
            f"{folder} cannot be read as Stable Diffusion's vae/ and unet/; get a whole copy."
        ) from error
    if unet.config.in_channels != vae.config.latent_channels or len(
            vae.config.block_out_channels) != 4:
        raise CrowdGaussianError(
            f"{folder} holds networks of another architecture; use SD-Turbo or SD 2.1-base.")
    return vae, unet


@torch.no_grad()
def _prompt(folder: Path) -> Tensor:
    """The embedding of the fixed prompt.  # [1, 77, D]"""
    from transformers import CLIPTextModel, CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CrowdGaussianError(
            f"{folder} cannot be read as CLIP's tokenizer/ and text_encoder/; get a whole copy."
        ) from error
    words = tokenizer(PROMPT, padding="max_length", max_length=tokenizer.model_max_length,
                      truncation=True, return_tensors="pt")
    return encoder(words.input_ids)[0].float()


def _save_vae(vae: AutoencoderKL, folder: Path) -> None:
    """The VAE under its published names, without the adapters."""
    state = {name.replace(".base_layer.", "."): value for name, value in vae.state_dict().items()
             if ".lora_" not in name}
    vae.save_config(folder)
    save_file({name: value.contiguous() for name, value in state.items()},
              folder / "diffusion_pytorch_model.safetensors")


def _extras(refiner: TurboRefiner) -> dict[str, Tensor]:
    parts = {"lora.": lora_state(refiner.vae), "posenet.": refiner.posenet.state_dict(),
             "skips.": refiner.skips.state_dict() if refiner.skips is not None else {}}
    state = {prefix + name: value.contiguous()
             for prefix, tensors in parts.items() for name, value in tensors.items()}
    return {"prompt": refiner.prompt.contiguous(), **state}


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items()
            if name.startswith(prefix)}


def _config(path: Path) -> TurboConfig:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["kind"] == KIND:
            return TurboConfig(**about["config"])
    except OSError as error:
        raise CrowdGaussianError(
            f"{path.parent} holds no refiner ({path.name} cannot be read); give a folder that "
            "`crowdgaussian train refiner` wrote.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CrowdGaussianError(f"{path} is damaged; get a whole copy of the refiner.") from error
    raise CrowdGaussianError(f"{path} describes another kind of refiner than SD-Turbo's.")
