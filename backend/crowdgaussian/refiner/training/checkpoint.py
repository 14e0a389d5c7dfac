# SPDX-License-Identifier: Apache-2.0
"""A training's checkpoint: weights, their average, AdamW's moments and the step, in one file."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from crowdgaussian_shared.errors import DamagedFileError, SettingError
from crowdgaussian_shared.formats.atomic import write_bytes
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ...core.training import WeightAverage
from .config import RefinerTraining

CHECKPOINT = "checkpoint.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class TrainingState:
    """What changes from step to step, but for the step itself."""

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None,
    ) -> None:
        self.parameters, self.optimizer, self.average = parameters, optimizer, average

    def save(self, out: Path, step: int, about: dict) -> None:
        """Writes OUT/checkpoint.safetensors; the older one stays until the new one is whole.

        Args:
            out: folder of the training.
            step: how many are done.
            about: what has to be the same when the training goes on.
        """
        tensors = {f"network.{name}": value for name, value in self.parameters.items()}
        for name, value in self.parameters.items():
            moments = self.optimizer.state[value]
            tensors |= {f"{key}.{name}": moments[key] for key in _MOMENTS}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.values.items()}
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_bytes(out / CHECKPOINT, save(plain, {"step": str(step), "about": json.dumps(about)}))

    def load(self, out: Path, about: dict) -> int:
        """Takes up OUT/checkpoint.safetensors; returns its step, 0 where there is none.

        Raises:
            CrowdGaussianError: it is damaged, or of a training with other settings.
        """
        path = out / CHECKPOINT
        if not path.exists():
            return 0
        try:
            with safe_open(path, "pt") as stream:
                facts, state = stream.metadata(), {k: stream.get_tensor(k) for k in stream.keys()}
            if not _same(json.loads(facts["about"]), about):
                raise SettingError(
                    f"{out} holds a training with other settings or data; give the same to "
                    "go on with it, or another output folder."
                )
            self._take(state)
            return int(facts["step"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise DamagedFileError(f"{path} is damaged; remove it to start over.") from error

    def _take(self, state: dict[str, Tensor]) -> None:
        for name, value in self.parameters.items():
            value.data.copy_(state[f"network.{name}"])
            self.optimizer.state[value] = {
                key: state[f"{key}.{name}"].to("cpu" if key == "step" else value.device)
                for key in _MOMENTS
            }
        if self.average is not None:
            self.average.load({name: state[f"average.{name}"] for name in self.parameters})


def _same(stored: dict, mine: dict) -> bool:
    """Whether two trainings are one; settings that are newer than a checkpoint had their default.

    Args:
        stored: of the checkpoint.
        mine: of this training.
    """
    plain = json.loads(json.dumps({"mine": mine, "usual": asdict(RefinerTraining())}))
    settings = plain["usual"] | stored["settings"]
    return stored | {"settings": settings} == plain["mine"]
