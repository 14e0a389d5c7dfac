# SPDX-License-Identifier: Apache-2.0
"""Settings of the stage that reconstructs a crowd with LORM."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LormStageConfig:
    """Which files, and how the people of a photo go through the network."""

    weights: str = "3DAIGC/LHM-500M-HF"  # folder of model.safetensors, or a name on the hub
    adapters: str = ""  # file of LORM's adapters (.safetensors); empty: the plain LHM
    sapiens: str = ""  # TorchScript file of Sapiens-1B; empty: the one of `crowdgaussian weights`
    points: str = ""  # 1_40000.ply; empty: the one of `crowdgaussian weights`, else own points
    batch: int = 0  # people at once; 0: as many as the device's memory allows
    device: str = ""  # "cuda", "cuda:1", "cpu"; empty: a GPU where there is one
    bfloat16: bool = True  # networks on a GPU; geometry is float32 in any case
    frame: str = "amodal"  # what the body image is framed by: "amodal" or "visible" silhouette
    photo_behind_head: bool = True  # as published: the photo stays around the head, but for people
