# SPDX-License-Identifier: Apache-2.0
"""What the frozen parts of the network say, kept on disk between steps and between runs.

Every entry is one safetensors file named by a hash of everything it was made from: the network's
weights, the person's pictures and parameters, and the settings. Nothing has to be invalidated: what
is made from something else has another name. A damaged file counts as none.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.formats.atomic import write_bytes
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..model.lorm import LormModel

Tensors = dict[str, Tensor]


class TeacherCache:
    """A folder of tensors by hash.

    Args:
        folder: made when the first entry is written.
        fingerprint: of the network, see fingerprint().
    """

    def __init__(self, folder: str | Path, fingerprint: str):
        self.folder, self.fingerprint = Path(folder), fingerprint

    def path(self, kind: str, *parts: object) -> Path:
        """Where an entry lies that is made from these parts (arrays, tensors, or anything whose
        repr says all of it)."""
        name = digest(self.fingerprint, *parts)
        return self.folder / kind / name[:2] / f"{name[2:]}.safetensors"

    def get(self, path: Path, make: Callable[[], Tensors]) -> Tensors:
        """The entry of a path; made and written where it is not there yet."""
        try:
            return load(path.read_bytes())
        except (OSError, SafetensorError):
            pass
        tensors = {name: value.detach().cpu().contiguous() for name, value in make().items()}
        write_bytes(path, save(tensors))
        return tensors


def digest(*parts: object) -> str:
    """A hash of values, the same on every machine."""
    hashed = hashlib.blake2b(digest_size=20)
    for part in parts:
        if isinstance(part, Tensor):
            part = part.detach().cpu().contiguous().view(torch.uint8).numpy()
        if isinstance(part, np.ndarray):
            hashed.update(f"{part.dtype}{part.shape}".encode())
            hashed.update(np.ascontiguousarray(part).tobytes())
        else:
            hashed.update(repr(part).encode())
        hashed.update(b"|")
    return hashed.hexdigest()


def fingerprint(model: LormModel) -> str:
    """A hash of everything that the network without adapters computes with."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    names = sorted(name for name in tensors if ".lora_" not in name)
    parts: list[object] = [model.config]
    for name in names:
        value = tensors[name]
        parts += [name.replace(".base_layer.", "."), value.reshape(-1)]
    script = getattr(model.body_encoder, "path", None)
    if script is not None:
        parts += [Path(script).name, Path(script).stat().st_size]
    return digest(*parts)
