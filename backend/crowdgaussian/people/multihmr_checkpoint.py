# SPDX-License-Identifier: Apache-2.0
"""Multi-HMR's published .pt files, read without running code that they may carry."""

import argparse
import pickle
from pathlib import Path
from zipfile import BadZipFile

import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from torch import Tensor

from .dino import from_original
from .multihmr_network import MultiHmrNetwork, NetworkSizes

_BACKBONE = "backbone.encoder."
_UNUSED = "smpl_layer."  # buffers of the body model, which has its own file


def load_multihmr(path: Path, device: str = "cpu") -> MultiHmrNetwork:
    """The network of a checkpoint, all tensors loaded.

    Args:
        path: multiHMR_896_L.pt, 672_L, 672_B or 672_S; the file tells its sizes.
        device: where the network goes.

    Raises:
        CrowdGaussianError: the file is missing, damaged, or another network.
    """
    state = read_checkpoint(path)
    try:
        sizes = NetworkSizes.from_shapes({name: tuple(t.shape) for name, t in state.items()})
        with torch.device("meta"):
            network = MultiHmrNetwork(sizes)
        network.load_state_dict(to_network_names(state), assign=True)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise CrowdGaussianError(
            f"{path} is not a Multi-HMR checkpoint that can be read ({_short(error)}); use "
            "multiHMR_896_L.pt, multiHMR_672_L.pt, multiHMR_672_B.pt or multiHMR_672_S.pt."
        ) from error
    return network.eval().to(device)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The float32 tensors of the file under their names there, without the body model's buffers.

    The file is a dict with an argparse.Namespace of settings beside the tensors: exactly that
    class is allowed besides what tensors need, nothing else is unpickled.

    Raises:
        CrowdGaussianError: the file is missing, damaged or holds other things.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
        state = content["model_state_dict"]
        return {name: tensor.float() for name, tensor in state.items()
                if not name.startswith(_UNUSED)}
    except FileNotFoundError as error:
        raise CrowdGaussianError(f"The Multi-HMR checkpoint {path} is missing.") from error
    except (OSError, EOFError, BadZipFile, RuntimeError, ValueError, KeyError, TypeError,
            AttributeError, pickle.UnpicklingError) as error:
        raise CrowdGaussianError(
            f"{path} cannot be read as a Multi-HMR checkpoint ({_short(error)}); download it again."
        ) from error


def to_network_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of a checkpoint -> names of MultiHmrNetwork."""
    backbone = {name.removeprefix(_BACKBONE): tensor for name, tensor in state.items()
                if name.startswith(_BACKBONE)}
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(_BACKBONE)}
    return rest | {f"backbone.{name}": t for name, t in from_original(backbone).items()}


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def _short(error: Exception) -> str:
    """The first line of an error, cut to a length that fits a sentence."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).rstrip(".:")[:160]
