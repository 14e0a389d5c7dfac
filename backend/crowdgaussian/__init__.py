# SPDX-License-Identifier: Apache-2.0
"""CrowdGaussian: one photo of a group of people into people you can direct."""

from importlib import import_module

__version__ = "0.1.0"

# What scripts use; loaded when it is first asked for, as most of the program is heavy to import.
_PUBLIC = {
    "Config": ".pipeline.config",
    "Job": ".pipeline.config",
    "preset": ".pipeline.config",
    "with_setting": ".pipeline.config",
    "reconstruct": ".pipeline.reconstruct",
    "Scene": ".export.view",
    "render": ".export.view",
    "Splats": ".splat.splats",
    "read_splats": ".export.read",
    "write_splats": ".export.files",
}


def __getattr__(name: str) -> object:
    """A name of the public face."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name], __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
