# SPDX-License-Identifier: Apache-2.0
"""What the server says about itself in WELCOME."""

from dataclasses import dataclass, replace

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol import PROTOCOL_MINOR
from crowdgaussian_shared.protocol.messages import Device, Limits, Model, Preset, Welcome
from crowdgaussian_shared.scene_schema import ModelProvenance

from .. import __version__
from ..config import PRESETS
from ..stages import files_for
from .device import describe_device

FREE = "Free to use, also commercially."
NOT_COMMERCIAL = "Not for commercial use: {}."


@dataclass(frozen=True)
class Greeting:
    """The parts of WELCOME that stay the same while the service runs."""

    data_port: int
    limits: Limits
    presets: tuple[Preset, ...]

    def welcome(self, request: int, device: Device | None) -> Welcome:
        """The answer to a HELLO; the CPU is named until a worker has said what it has."""
        if device is None or device.kind == "cpu":
            here = describe_device(look_for_gpu=False)
            device = here if device is None else replace(device, memory_free=here.memory_free)
        return Welcome(request, f"crowdgaussian {__version__}", self.data_port, device,
                       self.limits, self.presets, PROTOCOL_MINOR)


def offered_presets() -> tuple[Preset, ...]:
    """Every preset, also those that this server cannot run, and why not."""
    return tuple(_preset(name) for name in PRESETS)


def _preset(name: str) -> Preset:
    try:
        found = [file.provenance() for file in files_for(PRESETS[name])]
    except CrowdGaussianError as error:
        return Preset(name, available=False, commercial=False, licence="", missing=str(error))
    closed = sorted({model.licence for model in found if not model.commercial})
    return Preset(
        name, available=True, commercial=not closed,
        licence=NOT_COMMERCIAL.format(", ".join(closed)) if closed else FREE,
        models=tuple(_model(model) for model in found),
    )


def _model(model: ModelProvenance) -> Model:
    return Model(model.name, model.version, model.blake2b, model.licence, model.commercial)
