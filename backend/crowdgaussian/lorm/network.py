# SPDX-License-Identifier: Apache-2.0
"""The parts of the network that a checkpoint holds, under the published names."""

from torch import nn

from .config import LormConfig
from .decoder import GaussianDecoder
from .head_encoder import HeadEncoder
from .points import PointEmbedding
from .transformer import BodyHeadTransformer


class LormNetwork(nn.Module):
    """encoder (head), pcl_embed, transformer, renderer and motion_embed_mlp, of any size."""

    def __init__(self, config: LormConfig):
        super().__init__()
        self.encoder = HeadEncoder(config.head_encoder)
        self.pcl_embed = PointEmbedding(config.width, config.frequencies)
        self.transformer = BodyHeadTransformer(config)
        self.renderer = GaussianDecoder(config)
        self.motion_embed_mlp = nn.Sequential(
            nn.Linear(config.cond_dim, config.motion_hidden), nn.SiLU(),
            nn.Linear(config.motion_hidden, 2 * config.width),
        )
