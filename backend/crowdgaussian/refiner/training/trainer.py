# SPDX-License-Identifier: Apache-2.0
"""Training of a refiner with Self-Calibrated Learning (CrowdGaussian, section 3.3), and its card.

Everything random in a step is drawn from its number, so a training that was stopped goes on as if
it had not been. On several GPUs (`accelerate launch -m crowdgaussian train refiner ...`) each
process draws its own crops of a step; the gradients are averaged.
"""

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from crowdgaussian_shared.errors import SettingError
from torch import Tensor

from ...core import training
from ...core.device import choose_device
from ...core.training import Trainer, trained_parts
from ..networks.small_unet import SmallConfig, SmallRefiner, load_small, save_small
from ..types import OWN_LICENCE, Base, derivative
from .dataset import DAMAGE, FILE, PairDataset, draw_crop
from .losses import RefinerLoss, RefinerTraining, calibrate

if TYPE_CHECKING:
    from ..networks.sd_turbo import TurboRefiner  # diffusers takes seconds to load

    AnyRefiner: TypeAlias = SmallRefiner | TurboRefiner

_SHOWN = 4  # views of a sample grid


class RefinerTrainer(Trainer):
    """One training of one refiner in one folder."""

    config: RefinerTraining

    def __init__(
        self,
        network: "AnyRefiner",
        data: PairDataset,
        out: Path,
        config: RefinerTraining,
        loss: RefinerLoss,
    ) -> None:
        """Takes up the checkpoint of the folder where there is one.

        Args:
            network: (images, normals) -> images; float32; parameters that need no gradient stay.
            data: the pairs to learn from.
            out: folder for checkpoint, samples and TensorBoard.
            config: how.
            loss: with the frozen networks it needs.

        Raises:
            CrowdGaussianError: the folder holds a training with other settings, or TensorBoard is
                missing.
        """
        from accelerate import Accelerator  # who only loads or saves a refiner needs none

        gpu = choose_device().type == "cuda"
        accelerator = Accelerator(cpu=not gpu, mixed_precision=precision(config, gpu))
        self.data = data
        self.network = network.to(accelerator.device).train()
        self.criterion = loss.to(accelerator.device)
        facts = {"network": asdict(network.config), "views": len(data)}
        super().__init__(trained_parts(network), out, config, accelerator, facts)
        self.student = accelerator.prepare_model(network)  # gives float32 in any case
        if self.writer is not None:
            self.writer.add_text("losses", config.losses.in_words(), self.step)

    def loss(self) -> tuple[Tensor, dict[str, float]]:
        """Of this step's crops."""
        given, truth, normals = (
            part.to(self.accelerator.device) for part in self.draw(self.accelerator.process_index)
        )
        return self.criterion(self.student(given, normals), truth, self.step)

    def draw(self, process: int) -> tuple[Tensor, Tensor, Tensor]:
        """This step's input [B, 3, s, s], target and normals, in one of the processes."""
        config = self.config
        rng = np.random.default_rng([config.seed, self.step, process])
        generator = torch.Generator().manual_seed(
            config.seed * 1_000_003 + self.step + process * 1_000_000_007
        )
        crops = [draw_crop(self.data, config.crop, rng) for _ in range(config.batch)]
        coarse, truth, normals = (torch.stack(part) for part in zip(*crops, strict=True))
        return calibrate(coarse, truth, config.calibration, generator), truth, normals

    def picture(self) -> np.ndarray:
        """Coarse, refined and true, a row a view.  # [H, W, 3] uint8"""
        rows, device = [], self.accelerator.device
        for k in range(_SHOWN):
            pair = self.data[k * (len(self.data) - 1) // max(1, _SHOWN - 1)]
            coarse, truth = pair.on(torch.ones(3, 1, 1))
            with self.averaged():
                refined = self.network(coarse[None].to(device), pair.normals[None].to(device))
            rows.append(torch.cat([coarse, refined[0].cpu(), truth], 2))
        return torch.cat(rows, 1).clamp(0, 1).mul(255).byte().movedim(0, -1).numpy()


def precision(config: RefinerTraining, gpu: bool) -> str:
    """As accelerate names it; weights, gradients and AdamW are float32 in any case."""
    return "bf16" if config.bfloat16 and gpu else "no"


# The model card: what a refiner is, what it was trained on and how, and who may use it

CARD = "refiner_card.md"
_OWN_COARSE = {DAMAGE, "photo_fit"}  # made by nothing but this program


def training_facts(
    config: RefinerTraining, data: PairDataset, base: Base | None, command: str
) -> dict[str, str]:
    """What there is to say of a training, for the weights' file and the card.

    Args:
        config: how it was trained.
        data: on what.
        base: from which network; None: the small one.
        command: that did it.
    """
    scenes = [json.loads((scene / FILE).read_text(encoding="utf-8")) for scene in data.scenes]
    coarse = Counter(scene.get("coarse", DAMAGE) for scene in scenes)
    people = sorted({scene["settings"].get("people", "") for scene in scenes})
    calibration = config.calibration
    return {
        "licence": _licence(base, people, coarse),
        "base": "none: trained from nothing" if base is None else f"{base.name} ({base.licence})",
        "data": f"{len(data)} views of {len(scenes)} scenes",
        "people": ", ".join(name or "made up by the program" for name in people),
        "coarse views": ", ".join(f"{kind} ({count} scenes)" for kind, count in coarse.items()),
        "scenes": ", ".join(
            f"{name} {value}"
            for name, value in scenes[0]["settings"].items()
            if name not in ("people", "coarse")
        ),
        "command": command,
        "steps": str(config.steps),
        "batch": f"{config.batch} crops of {config.crop} pixels in each process",
        "learning rate": f"{config.lr:g}",
        "seed": str(config.seed),
        "losses": config.losses.in_words(),
        "self-calibrated learning": f"clean inputs {calibration.clean:g}, half-clean inputs "
        f"{calibration.half_clean:g}"
        if calibration.clean + calibration.half_clean
        else "off",
        "averaged weights": f"decay {config.ema:g}" if config.ema else "no",
    }


def write_card(out: Path, name: str, network: "AnyRefiner", facts: dict[str, str]) -> None:
    """Writes OUT/refiner_card.md.

    Args:
        out: folder of the training.
        name: of the weights in it.
        network: that was trained.
        facts: of training_facts.
    """
    trained = sum(value.numel() for value in network.parameters() if value.requires_grad)
    rows = {
        "parameters trained": f"{trained:,}",
        "normals": "used" if network.config.normals else "not used",
        **facts,
    }
    about = (
        f"# {name}\n\nA refiner of CrowdGaussian for Blender: a coarse view of people and "
        "the normals of their bodies go in, a clean view comes out, in one step."
    )
    last = f"How good it is: `crowdgaussian evaluate refiner DATA -o REPORT --refiner mine={name}`."
    training.write_card(out / CARD, about, rows, last)


def _licence(base: Base | None, people: list[str], coarse: Counter[str]) -> str:
    """Our own where nothing but this program had a hand in it; else whose terms hold too."""
    terms = [derivative(base.name, base.licence)] if base is not None else []
    terms += [f"trained on scans ({name}), whose terms hold" for name in people if name]
    terms += [
        f"coarse views made by {kind}, whose terms hold"
        for kind in coarse
        if kind not in _OWN_COARSE
    ]
    return "; ".join(terms) or OWN_LICENCE


# Which network a training begins with, and where it goes when it is trained

SMALL, TURBO = "refiner.safetensors", "refiner"


def new_network(
    base: Base | None, seed: int, start: Path | None = None, **changes: Any
) -> "AnyRefiner":
    """A refiner to train: on Stable Diffusion, or the small one where no base is given.

    Args:
        base: of the diffusion refiner.
        seed: of what is drawn at random.
        start: a trained small refiner to begin with; None: an untrained one.
        changes: of TurboConfig; without a base only `normals`.

    Raises:
        CrowdGaussianError: changes that need a base without one, a start that differs from them,
            or a file or folder cannot be read.
    """
    torch.manual_seed(seed)
    if start is not None:
        return _started(base, start, **changes)
    if base is None:
        if changes.keys() - {"normals"}:
            raise SettingError(
                "Skips and LoRA are in the VAE of a base; give --base too, or leave out --skips "
                "and --decoder-alpha."
            )
        return SmallRefiner(SmallConfig(**changes))
    from ..networks.sd_checkpoint import from_stable_diffusion
    from ..networks.sd_turbo import TurboConfig  # diffusers takes seconds to load

    return from_stable_diffusion(base.folder, TurboConfig(**changes))


def _started(base: Base | None, start: Path, **changes: Any) -> SmallRefiner:
    """A trained small refiner that is to learn more."""
    network = load_small(start)
    if base is not None or replace(network.config, **changes) != network.config:
        raise SettingError(
            "With --start the network is as it was: leave out --base, and give --no-normals only "
            "where it was trained so."
        )
    return network


def save_trained(network: "AnyRefiner", out: Path, facts: dict[str, str]) -> Path:
    """Writes OUT/refiner.safetensors of the small network, or the folder OUT/refiner, and a card.

    Args:
        network: trained.
        out: folder of the training.
        facts: what is said of it beside the weights and in the card.
    """
    if isinstance(network, SmallRefiner):
        path = out / SMALL
        save_small(network, path, facts)
    else:
        from ..networks.sd_checkpoint import save_refiner

        path = out / TURBO
        save_refiner(network, path, facts)
    write_card(out, path.name, network, facts)
    return path


def load_any(path: Path) -> "AnyRefiner":
    """A refiner of either kind: a small one's file, or a folder as load_turbo takes it.

    Raises:
        CrowdGaussianError: it is missing, damaged or of another architecture.
    """
    if not path.is_dir():
        return load_small(path)
    from ..networks.sd_checkpoint import load_turbo

    return load_turbo(path)
