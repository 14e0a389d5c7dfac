# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of one forward pass of LHM-500M-HF's size, with random weights.

    python benchmarks/lorm_forward.py                CPU, float32, 2,000 points
    python benchmarks/lorm_forward.py --bfloat16     half the memory, slower on most CPUs
    python benchmarks/lorm_forward.py --cuda         bfloat16, 40,000 points, batches 1 and 4

The body tokens (4,096 of Sapiens-1B, a file of its own) are random; everything else runs: head
encoder, embeddings, five layers, decoder, posing. The CPU run checks that attention memory is
bounded: one layer on many points must not allocate the score matrix.
"""

import argparse
import resource
import time

import torch
from crowdgaussian.body import load_body
from crowdgaussian.lorm.model.config import LormConfig
from crowdgaussian.lorm.model.lorm import LormModel, Tokens
from crowdgaussian.lorm.model.query_points import TemplateMesh, sample_points
from crowdgaussian.lorm.model.transformer import MultimodalBlock

GIB = 2**30


def build(config: LormConfig, dtype: torch.dtype, device: str) -> LormModel:
    """The network with small random weights, never in float32 when dtype is smaller."""
    mesh = TemplateMesh.from_body(load_body("open"))
    query = sample_points(mesh, config.num_points)
    with torch.device("meta"):
        model = LormModel(config, query)
    for name in ("encoder", "pcl_embed", "transformer", "renderer", "motion_embed_mlp"):
        getattr(model, name).to(dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for tensor in (*model.parameters(), model.pcl_embed.basis):
            tensor.normal_(std=0.02, generator=generator)
    model.posing.to(device)
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def forward(model: LormModel, batch: int, device: str) -> dict[str, float]:
    """Seconds of each step."""
    generator = torch.Generator(device).manual_seed(1)
    config, seconds = model.config, {}
    side = config.head_encoder.image
    head_images = torch.rand(batch, 3, side, side, device=device, generator=generator)
    shape = (batch, config.body_tokens, config.cond_dim)
    body = torch.randn(shape, device=device, generator=generator)
    started = _now(device)
    head = model.encoder(head_images)
    seconds["head encoder"] = _now(device) - started
    started = _now(device)
    attributes = model.attributes(Tokens(body, head))
    seconds["points, transformer, decoder"] = _now(device) - started
    started = _now(device)
    zeros = torch.zeros(batch, 55, 3, device=device)
    betas = torch.zeros(batch, model.posing.shape_dirs.shape[2], device=device)
    splats = model.gaussians(attributes, betas, zeros, zeros[:, 0])
    seconds["posing"] = _now(device) - started
    assert all(person.means.isfinite().all() for person in splats)
    return seconds


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


@torch.inference_mode()
def attention_memory(points: int, width: int = 1024) -> float:
    """GiB that the attention of one block takes beyond its own tensors, on the CPU."""
    with torch.device("meta"):
        block = MultimodalBlock(LormConfig(width=width), last=True)
    attention = block.attn.to_empty(device="cpu").bfloat16()
    for parameter in attention.parameters():
        parameter.zero_()
    x = torch.zeros(1, points, width, dtype=torch.bfloat16)
    context = torch.zeros(1, 4096, width, dtype=torch.bfloat16)
    before = peak_gib()
    attention(hidden_states=x, encoder_hidden_states=context)
    return peak_gib() - before


def on_cpu(points: int, dtype: torch.dtype, batch: int) -> None:
    """Prints one CPU run."""
    rows = 4096 + 8000
    grown = attention_memory(8000)
    scores = 16 * rows**2 * 2 / GIB
    print(
        f"attention of {rows:,} tokens: {grown:.2f} GiB more (its scores alone would be "
        f"{scores:.2f} GiB)"
    )
    assert grown < scores / 2, "the attention allocates its score matrix"
    started = time.perf_counter()
    model = build(LormConfig(num_points=points), dtype, "cpu")
    count = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{count:,} parameters in {dtype}, {points:,} points, made in "
        f"{time.perf_counter() - started:.1f} s"
    )
    seconds = forward(model, batch, "cpu")
    for step, value in seconds.items():
        print(f"  {step}: {value:.1f} s")
    print(
        f"batch {batch}: {sum(seconds.values()) / batch:.1f} s a person, peak {peak_gib():.2f} GiB"
    )


def on_cuda(points: int, batches: tuple[int, ...]) -> None:
    """Prints seconds, memory and the attention's share of the card's bf16 peak."""
    model = build(LormConfig(num_points=points), torch.bfloat16, "cuda")
    peak = measured_peak()
    config = model.config
    for batch in batches:
        forward(model, batch, "cuda")
        torch.cuda.reset_peak_memory_stats()
        seconds = forward(model, batch, "cuda")
        memory = torch.cuda.max_memory_allocated() / GIB
        work, spent = attention_work(config, batch), attention_seconds(config, batch, "cuda")
        total = sum(seconds.values())
        print(
            f"batch {batch}: {total / batch:.3f} s and {memory / batch:.2f} GiB a person; "
            f"attention {spent:.3f} s of it at {work / spent / 1e12:.0f} TFLOP/s, "
            f"{work / spent / peak:.0%} of a matrix product's {peak / 1e12:.0f}"
        )


def sequence_lengths(config: LormConfig) -> tuple[int, int]:
    """Tokens of a head block and of a body block."""
    head = config.num_points - config.num_body_points + config.head_encoder.tokens
    return head, config.num_points + config.body_tokens


def attention_work(config: LormConfig, batch: int) -> float:
    """Floating point operations of all attention products of a forward pass."""
    return batch * config.layers * sum(4 * n**2 * config.width for n in sequence_lengths(config))


def attention_seconds(config: LormConfig, batch: int, device: str) -> float:
    """Time of the attention products of a forward pass, alone."""
    total = 0.0
    for length in sequence_lengths(config):
        shape = (batch, config.heads, length, config.head_dim)
        q, k, v = (torch.randn(shape, device=device, dtype=torch.bfloat16) for _ in range(3))
        torch.nn.functional.scaled_dot_product_attention(q, k, v)
        started = _now(device)
        for _ in range(config.layers):
            torch.nn.functional.scaled_dot_product_attention(q, k, v)
        total += _now(device) - started
    return total


def measured_peak(size: int = 8192, repeats: int = 20) -> float:
    """Operations a second of a large bf16 matrix product: the card's practical peak."""
    a = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    a @ a
    started = _now("cuda")
    for _ in range(repeats):
        a @ a
    return repeats * 2 * size**3 / (_now("cuda") - started)


def main() -> None:
    """Runs one of the two measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=0, help="default 2,000; 40,000 with --cuda")
    parser.add_argument("--batch", type=int, default=1, help="people at once, on the CPU")
    parser.add_argument("--bfloat16", action="store_true", help="weights on the CPU")
    parser.add_argument("--cuda", action="store_true")
    arguments = parser.parse_args()
    if arguments.cuda and not torch.cuda.is_available():
        raise SystemExit("There is no CUDA device here; leave --cuda out.")
    if arguments.cuda:
        on_cuda(arguments.points or 40000, (1, 4))
    else:
        dtype = torch.bfloat16 if arguments.bfloat16 else torch.float32
        on_cpu(arguments.points or 2000, dtype, arguments.batch)


if __name__ == "__main__":
    main()
