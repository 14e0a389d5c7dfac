# SPDX-License-Identifier: Apache-2.0
"""SD-Turbo, or SD 2.1-base, as diffusers saves it: networks, the prompt's embedding, licences."""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError, disk_error
from crowdgaussian_shared.formats.atomic import write_bytes
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ...core.device import load_pretrained
from ..types import EXTRAS, PLAIN, TRAINED
from .sd_turbo import (
    SCHEDULE,
    TurboConfig,
    TurboRefiner,
    add_decoder_lora,
    load_lora_state,
    lora_state,
)

PROMPT = "remove degradation"  # Difix3D+'s
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_Network = TypeVar("_Network", bound=ModelMixin)
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
        raise MissingFileError(
            f"{folder} has no {missing[0]}/; give the folder of SD-Turbo as diffusers saves it "
            "(`crowdgaussian weights fetch sd-turbo`)."
        )
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
    if (
        unet.config.in_channels != vae.config.latent_channels
        or len(vae.config.block_out_channels) != 4
    ):
        raise _other_architecture(folder)
    return vae, unet


def _whole(kind: type[_Network], folder: Path) -> _Network:
    """A network all of whose tensors come from its folder, none made up at random."""
    try:
        network, told = kind.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, torch_dtype=torch.float32
        )
        absent = sorted(told["missing_keys"])
    except _UNREADABLE as error:
        raise DamagedFileError(
            f"{folder} cannot be read as Stable Diffusion's {folder.name}/; get a whole copy."
        ) from error
    if absent:
        raise DamagedFileError(
            f"{folder} lacks {len(absent)} tensors, such as {absent[0]}; get a whole copy, or "
            "use SD-Turbo or SD 2.1-base."
        )
    return network


def _check_schedule(path: Path) -> None:
    """The one step in closed form is right for one way of predicting and one schedule only."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        found = {name: said.get(name, value) for name, value in SCHEDULE.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} is missing or damaged; get a whole copy of the folder."
        ) from error
    if found != SCHEDULE:
        odd = next(name for name in SCHEDULE if found[name] != SCHEDULE[name])
        raise DamagedFileError(
            f"{path} has {odd} {found[odd]} where a refiner needs {SCHEDULE[odd]}; use SD-Turbo "
            "or SD 2.1-base."
        )


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
        raise DamagedFileError(f"{place} cannot be read as CLIP's; get a whole copy.") from error
    encoder = load_pretrained("CLIPTextModel", folder / "text_encoder").float()
    words = tokenizer(
        PROMPT,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    return encoder(words.input_ids)[0]


def _other_architecture(folder: Path) -> DamagedFileError:
    return DamagedFileError(
        f"{folder} holds networks of another architecture; use SD-Turbo or SD 2.1-base."
    )


# TurboRefiner from SD-Turbo's folder, and to and from a folder of its own

KIND = "crowdgaussian turbo refiner"


def from_stable_diffusion(folder: Path, config: TurboConfig) -> TurboRefiner:
    """A refiner that has learned nothing yet, from SD-Turbo or SD 2.1-base as diffusers saves it.

    Raises:
        CrowdGaussianError: a part is missing, damaged, or of another architecture.
    """
    found = read_stable_diffusion(folder)
    add_decoder_lora(found.vae, config)
    return TurboRefiner(found.vae, found.unet, found.prompt, config)


def save_refiner(refiner: TurboRefiner, folder: Path, facts: dict[str, str] | None = None) -> None:
    """Writes everything that load_refiner needs; an older folder stays until the new is whole.

    Args:
        refiner: on any device.
        folder: which becomes the refiner.
        facts: more to say in refiner.json, such as licence, data and command.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
            _write(refiner, Path(place), folder, facts or {})
    except (OSError, SafetensorError) as error:
        raise disk_error(
            error,
            f"{folder} cannot be written ({error}); free some space and run the same command "
            "again.",
        ) from error


def _write(refiner: TurboRefiner, beside: Path, folder: Path, facts: dict[str, str]) -> None:
    new = beside / "new"
    refiner.unet.save_pretrained(new / "unet")
    _save_vae(refiner.vae, new / "vae")
    write_bytes(new / EXTRAS, save(_extras(refiner)))
    about = {"kind": KIND, "config": asdict(refiner.config), "facts": facts}
    (new / TRAINED).write_text(json.dumps(about, indent=1), encoding="utf-8")
    if folder.exists():
        folder.rename(beside / "old")
    new.rename(folder)


def load_turbo(folder: Path) -> TurboRefiner:
    """A trained refiner, or one on Stable Diffusion that has learned nothing yet, for use.

    Raises:
        CrowdGaussianError: the folder is neither, damaged, or of another architecture.
    """
    if (folder / PLAIN).is_file() and not (folder / TRAINED).is_file():
        return from_stable_diffusion(folder, TurboConfig()).eval()
    return load_refiner(folder).eval()


def load_refiner(folder: Path) -> TurboRefiner:
    """A refiner that save_refiner wrote.

    Raises:
        CrowdGaussianError: it is no such folder, damaged, or of another architecture.
    """
    config = _config(folder / TRAINED)
    vae, unet = read_networks(folder)
    add_decoder_lora(vae, config)
    try:
        extras = load_file(folder / EXTRAS)
        refiner = TurboRefiner(vae, unet, extras.pop("prompt"), config)
        lora = _named(extras, "lora.")
        if lora.keys() != lora_state(vae).keys():
            raise KeyError("lora")
        load_lora_state(vae, lora)
        refiner.posenet.load_state_dict(_named(extras, "posenet."))
        if refiner.skips is not None:
            refiner.skips.load_state_dict(_named(extras, "skips."))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise DamagedFileError(
            f"{folder / EXTRAS} is damaged or belongs to another refiner; get a whole copy."
        ) from error
    return refiner


def _save_vae(vae: AutoencoderKL, folder: Path) -> None:
    """The VAE under its published names, without the adapters."""
    state = {
        name.replace(".base_layer.", "."): value
        for name, value in vae.state_dict().items()
        if ".lora_" not in name
    }
    vae.save_config(folder)
    write_bytes(
        folder / "diffusion_pytorch_model.safetensors",
        save({name: value.contiguous() for name, value in state.items()}),
    )


def _extras(refiner: TurboRefiner) -> dict[str, Tensor]:
    parts = {
        "lora.": lora_state(refiner.vae),
        "posenet.": refiner.posenet.state_dict(),
        "skips.": refiner.skips.state_dict() if refiner.skips is not None else {},
    }
    state = {
        prefix + name: value.contiguous()
        for prefix, tensors in parts.items()
        for name, value in tensors.items()
    }
    return {"prompt": refiner.prompt.contiguous(), **state}


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _config(path: Path) -> TurboConfig:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["kind"] == KIND:
            return TurboConfig(**about["config"])
    except OSError as error:
        raise MissingFileError(
            f"{path.parent} holds no refiner ({path.name} cannot be read); give a folder that "
            "`crowdgaussian train refiner` wrote."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(f"{path} is damaged; get a whole copy of the refiner.") from error
    raise DamagedFileError(f"{path} describes another kind of refiner than SD-Turbo's.")
