# SPDX-License-Identifier: Apache-2.0
"""Steps of the GPU check on published layouts with random weights: forward, and in training."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .measure import Figure, Machine, below, matrix_peak, milliseconds, named

_A100_MS = 76.0  # a view of 512 pixels, as Difix3D+ (Wu et al. 2025) says of its own on an A100
_SAME_BFLOAT16 = 0.05  # largest difference of a picture 0..1 that bfloat16 makes in a small network
_RATE = 1e-5  # of training steps; larger ones may carry random weights off
_PROMPT = 1024  # width of SD-Turbo's prompt
_SAME = 5e-3  # the same of a score, in TensorFloat-32


def matrices(machine: Machine) -> list[Figure]:
    """A large matrix product in bf16."""
    return [Figure("bf16 matrix product", matrix_peak(machine) / 1e12, "TFLOP/s")]


def lorm(machine: Machine) -> list[Figure]:
    """LHM-500M-HF's layout at 40,000 points, one person and four, and its attention alone."""
    import lorm_forward
    from crowdgaussian.lorm.model.config import LormConfig

    config = machine.pick(LormConfig(), LormConfig.tiny(num_points=200))
    dtype = machine.pick(torch.bfloat16, torch.float32)
    model = lorm_forward.build(config, dtype, machine.device)
    peak, figures = matrix_peak(machine), []
    for batch in machine.pick((1, 4), (1, 2)):
        work = partial(lorm_forward.forward, model, batch, machine.device)
        whole = milliseconds(machine, work, batch)
        spent = lorm_forward.attention_seconds(config, batch, machine.device)
        rate = lorm_forward.attention_work(config, batch) / spent
        figures += named(
            f"{config.num_points:,} points, {batch} at once, a person",
            [
                *whole,
                Figure("attention", 1000 * spent / batch, "ms"),
                Figure("attention's rate", rate / 1e12, "TFLOP/s"),
                Figure("of a matrix product's rate", 100 * rate / peak, "%"),
            ],
        )
    return figures


def people(machine: Machine) -> list[Figure]:
    """Multi-HMR 896_L on one photo, and the smallest layout here and on the CPU."""
    from _support.multihmr_made_up import PUBLISHED, SMALL

    apart = []
    with torch.no_grad():
        scores = [_multihmr(SMALL, name)(0.0)[0].scores.cpu() for name in ("cpu", machine.device)]
        if len(scores[0]) == len(scores[1]):
            apart = [float((scores[0] - scores[1]).abs().max())]
        figures = [
            Figure("small: people found", len(scores[1]), "", f"{len(scores[0])} as on a CPU"),
            *(below("small: scores apart from the CPU's", each, _SAME) for each in apart),
        ]
        network = _multihmr(machine.pick(PUBLISHED["896_L"], SMALL), machine.device)
        return figures + named(
            machine.pick("896_L", "small"), milliseconds(machine, lambda: network(0.0))
        )


def _multihmr(sizes: tuple[int, int, int], device: str):
    """A network of random weights that looks at one random photo, given a threshold."""
    from _support.multihmr_made_up import layout, random_state, write_checkpoint
    from crowdgaussian.people.multihmr.network import load_multihmr

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "multiHMR.pt")
        write_checkpoint(path, random_state(layout(*sizes)))
        network = load_multihmr(path, device)
    side = network.sizes.image
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    K = torch.tensor([[side * 0.866, 0, side / 2], [0, side * 0.866, side / 2], [0, 0, 1.0]])
    return lambda threshold: network(image, K[None].to(device), threshold=threshold)


def turbo(machine: Machine) -> list[Figure]:
    """SD-Turbo's layout at 512 pixels, one view and eight, beside what Difix3D+ claims."""
    from _support.refiner_made_up import pictures, small_refiner

    with torch.no_grad():
        given = pictures(64, 64)
        seen = [
            small_refiner().to(device).refine(*(part.to(device) for part in given)).cpu()
            for device in ("cpu", machine.device)
        ]
        apart = float((seen[0] - seen[1]).abs().max())
        figures = [below("small: pictures apart from the CPU's", apart, _SAME_BFLOAT16)]
        refiner = _turbo(machine).eval()
        for batch in machine.pick((1, 8), (1, 2)):
            views = [part.to(machine.device) for part in _views(batch, machine.pick(512, 64))]
            median, *others = milliseconds(machine, partial(refiner.refine, *views), batch)
            claim = f"{_A100_MS:g} on an A100"
            good = None if machine.small else median.value < _A100_MS
            figures += named(
                f"{batch} at once, a view", [replace(median, wanted=claim, good=good), *others]
            )
    return figures


def _turbo(machine: Machine):
    from _support.refiner_made_up import small_refiner
    from crowdgaussian.refiner.networks.sd_turbo import (
        TurboConfig,
        TurboRefiner,
        add_decoder_lora,
    )
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from refiner_turbo import UNET, VAE

    if machine.small:
        return small_refiner().to(machine.device)
    torch.manual_seed(0)
    with torch.device(machine.device):
        vae, unet, config = AutoencoderKL(**VAE), UNet2DConditionModel(**UNET), TurboConfig()
        add_decoder_lora(vae, config)
        prompt = torch.randn(1, 77, _PROMPT)
        return TurboRefiner(vae, unet, prompt, config)


def _views(count: int, size: int) -> tuple[Tensor, Tensor]:
    make = torch.Generator().manual_seed(1)
    return (
        torch.rand(count, 3, size, size, generator=make),
        torch.rand(count, 4, size, size, generator=make),
    )


# Steps of training in bf16, weights and AdamW in float32


def _steps(machine: Machine, network: nn.Module, loss_of: Callable[[], Tensor]) -> list[Figure]:
    """Steps of AdamW on one batch: time, memory, and that the loss is a number and falls."""
    trained = [value for value in network.parameters() if value.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=_RATE), []

    def step() -> None:
        loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))

    figures = milliseconds(machine, step)
    finite = bool(np.isfinite(losses).all())
    count = sum(value.numel() for value in trained) / 1e6
    return [
        *figures,
        Figure("trained parameters", count, "million"),
        Figure("loss, first", losses[0], "", "a number", finite),
        Figure("loss, last", losses[-1], "", "a number", finite),
    ]


def train_refiner(machine: Machine) -> list[Figure]:
    """The diffusion refiner at the paper's batch, then the small one."""
    from crowdgaussian.refiner.networks.small_unet import SmallRefiner

    size = machine.pick(512, 32)
    figures = _train(machine, _turbo(machine), size, "SD-Turbo's layout")
    machine.forget_peak()
    small = SmallRefiner().to(machine.device)
    return figures + _train(machine, small, machine.pick(128, 32), "the small network")


def _train(machine: Machine, network: nn.Module, size: int, name: str) -> list[Figure]:
    """Steps on two crops of a number of pixels; the truth is half as bright."""
    from crowdgaussian.refiner.training.losses import RefinerLoss, RefinerLossWeights

    criterion = RefinerLoss(RefinerLossWeights().without_vgg())
    images, normals = (part.to(machine.device) for part in _views(2, size))

    def loss() -> Tensor:
        with machine.bfloat16():
            refined = network(images, normals)
        return criterion(refined.float(), 0.5 * images, 0)[0]

    return named(
        f"{name}, 2 crops of {size} pixels, a step", _steps(machine, network.train(), loss)
    )


def train_lorm(machine: Machine) -> list[Figure]:
    """LORM's adapters on one person in 24 views of 512 pixels, layers recomputed."""
    import lorm_forward
    from crowdgaussian.lorm.model.adapters import add_adapters
    from crowdgaussian.lorm.model.config import LormConfig
    from crowdgaussian.lorm.training.distill import LormTraining, Student, step_loss

    config = machine.pick(LormConfig(), LormConfig.tiny(num_points=200))
    model = lorm_forward.build(config, torch.float32, machine.device)
    add_adapters(model)
    model.transformer.gradient_checkpointing = True
    training = LormTraining(views_per_step=machine.pick(24, 2), render_size=machine.pick(512, 32))
    lesson, student = _lesson(model, training), Student(model)

    def autocast(*tokens: Tensor) -> tuple[Tensor, ...]:
        with machine.bfloat16():
            return student(*tokens)

    def loss_of() -> Tensor:
        rng = np.random.default_rng(0)
        return step_loss(autocast, model, [lesson], training, rng)  # type: ignore[arg-type]

    words = f"{config.num_points:,} points, {training.views_per_step} views of "
    words += f"{training.render_size} pixels, a step"
    return named(words, _steps(machine, model, loss_of))


def _lesson(model, training):
    """What a step compares with: random tokens, and grey views."""
    from crowdgaussian.lorm.training.distill import Lesson, orbit_cameras

    config, make = model.config, torch.Generator().manual_seed(0)
    device = next(model.parameters()).device
    pose = torch.zeros(55, 3, device=device)
    betas = torch.zeros(model.posing.shape_dirs.shape[2], device=device)
    cameras = orbit_cameras(model.posing, betas, pose, training.render_size)
    size = training.render_size
    tokens = {
        "body": torch.randn(config.body_tokens, config.cond_dim, generator=make),
        "head": torch.randn(config.head_encoder.tokens, config.cond_dim, generator=make),
    }
    renders = torch.full((len(cameras), size, size, 3), 128, dtype=torch.uint8)
    return Lesson(tokens, renders, cameras, betas, pose)
