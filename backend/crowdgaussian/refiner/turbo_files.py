# SPDX-License-Identifier: Apache-2.0
"""TurboRefiner from SD-Turbo's folder, and to and from a folder of its own.

Its own folder holds vae/ and unet/ as diffusers writes them, extras.safetensors (prompt, PoseNet,
LoRA, skips) and refiner.json. It is written beside and renamed when whole.
"""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.files import write_bytes
from diffusers import AutoencoderKL
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from .adapters import add_decoder_lora, load_lora_state, lora_state
from .stable_diffusion import read_networks, read_stable_diffusion
from .turbo import TurboConfig, TurboRefiner
from .used_files import EXTRAS, PLAIN, TRAINED

KIND = "crowdgaussian turbo refiner"


def from_stable_diffusion(folder: Path, config: TurboConfig) -> TurboRefiner:
    """A refiner that has learned nothing yet, from SD-Turbo or SD 2.1-base as diffusers saves it.

    Raises:
        CrowdGaussianError: a part is missing, damaged, or of another architecture.
    """
    found = read_stable_diffusion(folder)
    add_decoder_lora(found.vae, config.rank)
    return TurboRefiner(found.vae, found.unet, found.prompt, config)


def save_refiner(refiner: TurboRefiner, folder: Path, facts: dict[str, str] | None = None) -> None:
    """Writes everything that load_refiner needs; an older folder stays until the new is whole.

    Args:
        refiner: on any device.
        folder: which becomes the refiner.
        facts: more to say in refiner.json, such as licence, data and command.

    Raises:
        CrowdGaussianError: the disk is full or the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
            _write(refiner, Path(place), folder, facts or {})
    except (OSError, SafetensorError) as error:
        raise CrowdGaussianError(f"{folder} cannot be written ({error}); free some space and run "
                                 "the same command again.") from error


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
    add_decoder_lora(vae, config.rank)
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
        raise CrowdGaussianError(
            f"{folder / EXTRAS} is damaged or belongs to another refiner; get a whole copy."
        ) from error
    return refiner


def _save_vae(vae: AutoencoderKL, folder: Path) -> None:
    """The VAE under its published names, without the adapters."""
    state = {name.replace(".base_layer.", "."): value for name, value in vae.state_dict().items()
             if ".lora_" not in name}
    vae.save_config(folder)
    write_bytes(folder / "diffusion_pytorch_model.safetensors",
                save({name: value.contiguous() for name, value in state.items()}))


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
