# SPDX-License-Identifier: Apache-2.0
"""The device torch computes on, and networks from and to files on this machine."""

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from crowdgaussian_shared.errors import DamagedFileError, OutOfMemoryError, SettingError
from crowdgaussian_shared.formats.atomic import write_bytes
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.image_processing_base import ImageProcessingMixin

# What a checkpoint that is damaged, or of another network, raises while it is read and filled in.
UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    pickle.UnpicklingError,
)
_SAYINGS = (  # in which torch tells that memory ran out
    "can't allocate memory",  # torch on a CPU: "DefaultCPUAllocator: can't allocate memory: ..."
    "not enough memory",  # the same on Windows
    "could not create a memory",  # oneDNN
    "out of memory",  # CUDA's drivers, MPS
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def choose_device(name: str = "", setting: str = "the device") -> torch.device:
    """The device of that name, or a GPU where there is one for an empty name.

    Args:
        name: "cuda", "cuda:1", "cpu" or empty, as torch names devices.
        setting: what the user set to that name; the error says it.

    Raises:
        SettingError: there is no such device here.
    """
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingError(
            f"There is no device '{name}' on this machine; leave {setting} empty or use cpu."
        ) from error
    return device


@contextmanager
def within_memory(sentence: str) -> Iterator[None]:
    """Turn every way in which torch and Python say that memory ran out into one error.

    Raises:
        OutOfMemoryError: with that sentence.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemoryError(sentence) from error


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in _SAYINGS)


def float_tensor(values: np.ndarray) -> Tensor:
    """The same numbers in torch, on the CPU.  # float32 of the same shape"""
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)


def float_array(tensor: Tensor) -> np.ndarray:
    """The same numbers in numpy, without gradient, from any device.  # float32, contiguous"""
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()


# Networks of transformers from a folder on this machine: safetensors only, nothing missing

_Module = TypeVar("_Module", bound=nn.Module)
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


# A network of our own in one safetensors file that says what it is


class _Configured(Protocol):
    """A module with the settings that it was made with."""

    config: Any

    def state_dict(self) -> dict[str, Tensor]:
        """Of nn.Module."""
        ...


def save_network(
    network: _Configured, path: Path, facts: dict[str, str], dtype: torch.dtype = torch.float32
) -> None:
    """Writes weights, settings and facts; an older file stays until the new one is whole.

    Args:
        network: on any device.
        path: of the file.
        facts: what else the file says of itself: its kind, licence, data, command.
        dtype: of the weights in the file.
    """
    facts = {**facts, "config": json.dumps(asdict(network.config))}
    state = {
        name: value.detach().to(dtype).cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    write_bytes(path, save(state, facts))


def load_network(path: Path, facts: dict[str, str], build: Callable[..., _Module]) -> _Module:
    """A network that save_network wrote, in evaluation mode.

    Args:
        path: of the file.
        facts: what the file says of itself.
        build: makes it from its settings.

    Raises:
        DamagedFileError: the file is damaged or of another architecture.
    """
    try:
        settings: dict[str, Any] = json.loads(facts["config"])
        listed = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
        network = build(**listed)
        with safe_open(path, "pt") as stream:
            state = {name: stream.get_tensor(name).float() for name in stream.keys()}
        network.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DamagedFileError(
            f"{path} is damaged or holds weights of another architecture; get a whole copy."
        ) from error
    return network.eval()
