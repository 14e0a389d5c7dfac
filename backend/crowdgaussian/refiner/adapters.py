# SPDX-License-Identifier: Apache-2.0
"""LoRA of rank 4 in the VAE's decoder (peft); the rest of the VAE stays as it was published."""

from diffusers import AutoencoderKL
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

_LAYERS = r"conv1|conv2|conv_in|conv_shortcut|conv|conv_out|to_q|to_k|to_v|to_out\.0"
TARGETS = rf"decoder\.(.*\.)?({_LAYERS})"


def add_decoder_lora(vae: AutoencoderKL, rank: int) -> None:
    """Adds adapters to the decoder; everything else of the VAE is frozen."""
    vae.requires_grad_(False)
    vae.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian",
                               target_modules=TARGETS))


def lora_state(vae: AutoencoderKL) -> dict[str, Tensor]:
    """The adapters' tensors."""
    return get_peft_model_state_dict(vae)


def load_lora_state(vae: AutoencoderKL, state: dict[str, Tensor]) -> None:
    """Puts saved adapters back into a VAE that has them."""
    set_peft_model_state_dict(vae, state)
