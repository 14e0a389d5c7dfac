# SPDX-License-Identifier: Apache-2.0
"""What this machine computes on."""

import os
import platform
import shutil
import subprocess

from crowdgaussian_shared.protocol.messages import Device

from ..process import available_cores


def describe_device(look_for_gpu: bool) -> Device:
    """The GPU that torch would use, or the CPU.

    Args:
        look_for_gpu: imports torch, which takes seconds; never in the broker.
    """
    if look_for_gpu:
        import torch

        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            return Device("cuda", torch.cuda.get_device_name(), total, free)
    total, free = _main_memory()
    name = platform.processor() or platform.machine()
    return Device("cpu", f"{name}, {available_cores()} cores", total, free)


def gpu_indices() -> list[str]:
    """The GPUs that workers may use, one each; empty without any. Does not import torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [index for index in chosen.split(",") if index.strip()]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=index", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return told.stdout.split()


def _main_memory() -> tuple[int, int]:
    """Bytes in all and free; zeros where the system does not tell."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    except (AttributeError, ValueError, OSError):
        return 0, 0
