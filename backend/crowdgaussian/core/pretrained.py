# SPDX-License-Identifier: Apache-2.0
"""Networks of transformers from a folder on this machine: safetensors only, nothing missing."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from crowdgaussian_shared.errors import DamagedFileError

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.image_processing_base import ImageProcessingMixin

_Processor = TypeVar("_Processor", bound="ImageProcessingMixin")


def model_type(folder: Path) -> str:
    """What config.json of a folder says it is; empty when it says nothing."""
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(document["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def load_pretrained(
    class_name: str, folder: Path, device: torch.device | str = "cpu"
) -> "PreTrainedModel":
    """A network of transformers in evaluation mode, every tensor from the folder.

    Args:
        class_name: as in "VitPoseForPoseEstimation".
        folder: holds config.json and model.safetensors.
        device: where the network goes.

    Raises:
        DamagedFileError: the folder is missing, damaged, or holds another network.
    """
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, info = getattr(transformers, class_name).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise DamagedFileError(
            f"The folder {folder} cannot be read as {class_name}: it needs config.json and "
            "model.safetensors as published; download it again."
        ) from error
    if info["missing_keys"]:
        raise DamagedFileError(
            f"{folder}/model.safetensors lacks {len(info['missing_keys'])} tensors of "
            f"{class_name}, {sorted(info['missing_keys'])[0]} among them; download it again."
        )
    return model.eval().to(device)


def load_processor(kind: type[_Processor], folder: Path) -> _Processor:
    """The image processor of a folder, by the class that needs no torchvision."""
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise DamagedFileError(
            f"The folder {folder} lacks a preprocessor_config.json that can be read; download the "
            "model again."
        ) from error
