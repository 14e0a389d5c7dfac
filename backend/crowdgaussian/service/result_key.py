# SPDX-License-Identifier: Apache-2.0
"""The key under which a result is kept: all that decides what comes out, and nothing else."""

import hashlib
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from crowdgaussian_shared.scene_schema import hash_bytes, hash_file

from .. import __version__
from ..config import Config
from ..stages import files_for
from ..weights import WeightFile

PACKAGES = ("crowdgaussian", "crowdgaussian_shared")


def result_key(photo_blake2b: str, config: Config, pipeline: str, edit: str = "") -> str:
    """BLAKE2b-256 of photo, settings, model files, code and corrections, as hex.

    Args:
        photo_blake2b: of the photo's file.
        config: all settings.
        pipeline: module:function that computes the result.
        edit: text of the corrections, as SceneEdits writes them; empty for none.

    Raises:
        CrowdGaussianError: a model file is missing.
    """
    models = [_model_hash(file) for file in files_for(config)]
    settings = sorted(config.flat().items())
    parts = [photo_blake2b, settings, models, pipeline, code_version()]
    key = hash_bytes(json.dumps(parts).encode())
    return hash_bytes(f"{key} {edit}".encode()) if edit else key


@cache
def code_version() -> str:
    """The version and a hash of the source files: a changed program never finds old work."""
    digest = hashlib.blake2b(digest_size=32)
    for package in PACKAGES:
        for folder in find_spec(package).submodule_search_locations:
            for path in sorted(Path(folder).rglob("*.py")):
                digest.update(f"{path.relative_to(folder)} {hash_file(path)}\n".encode())
    return f"{__version__} {digest.hexdigest()}"


@cache
def _model_hash(file: WeightFile) -> str:
    return file.digest or hash_file(file.path())
