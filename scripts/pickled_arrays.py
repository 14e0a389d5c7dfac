# SPDX-License-Identifier: Apache-2.0
"""Arrays from the pickles of data sets, for the scripts that convert them once."""

import argparse
import collections
import io
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import torch

# What files raise that are damaged, or hold something else.
DAMAGE = (OSError, KeyError, IndexError, TypeError, EOFError, AttributeError, RuntimeError,
          ImportError, pickle.UnpicklingError)  # fmt: skip


class ArraysOnly(pickle.Unpickler):
    """A pickle of numpy arrays and torch tensors; nothing else is ever called."""

    _NUMPY = {
        ("_reconstruct", "multiarray"),
        ("scalar", "multiarray"),
        ("ndarray", "numpy"),
        ("dtype", "numpy"),
        ("_frombuffer", "numeric"),
    }

    def find_class(self, module: str, name: str):
        if (name, module.split(".")[-1]) in self._NUMPY and module.split(".")[0] == "numpy":
            return super().find_class(module, name)
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return torch._utils._rebuild_tensor_v2
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return lambda data: torch.load(io.BytesIO(data), weights_only=True)
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 2 and old numpy write them
            return _latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def convert_all(about: str, pattern: str, convert: Callable[[Path], Path]) -> int:
    """Converts the files of the folder that the command line names; returns the exit code.

    Args:
        about: the script's description.
        pattern: of the files below the folder.
        convert: writes one file's arrays; ValueError says why a file is left out.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("folder", type=Path)
    paths = sorted(parser.parse_args().folder.glob(pattern))
    refused = 0
    for path in paths:
        try:
            convert(path)
        except ValueError as error:
            refused += 1
            print(f"{path} is left out: {error}", file=sys.stderr)
    print(f"{len(paths) - refused} of {len(paths)} parameter files converted")
    return 1 if refused or not paths else 0


def _latin1(text: str, encoding: str) -> bytes:
    return text.encode("latin1")
