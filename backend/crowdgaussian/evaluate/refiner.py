# SPDX-License-Identifier: Apache-2.0
"""Refiners against the truth on scenes they have not seen (the paper's Table 3).

Also what they do to pictures that are clean already: the truth itself goes in, and the PSNR of what
comes out says how much was left alone.
"""

import csv
import io
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.files import write_bytes
from PIL import Image
from torch import Tensor

from ..metrics import masked_psnr, masked_ssim, psnr, ssim
from ..progress import Progress, Report, silent
from ..refiner.pairs import PairDataset
from ..refiner.types import Refiner

METRICS = ("PSNR", "masked PSNR", "SSIM", "masked SSIM", "clean in: PSNR")
COARSE = "coarse"
_PICTURES = 6
_SIDE = 7  # pixels by which the mask reaches over truth and bodies


def evaluate_refiners(data: PairDataset, out: Path, refiners: dict[str, Refiner],
                      report: Report = silent) -> str:
    """Measures all of them on the same views on white.

    Args:
        data: the test scenes.
        out: for report.md, results.csv and pictures.png.
        refiners: by name.
        report: told about every view.

    Returns:
        The report as Markdown.
    """
    rows: dict[str, list[list[float]]] = {name: [] for name in (COARSE, *refiners)}
    shown = set(np.linspace(0, len(data) - 1, _PICTURES).astype(int).tolist())
    strips = []
    for index in range(len(data)):
        report(Progress("evaluate", index / len(data)))
        pair = data[index]
        coarse, truth = (picture[None] for picture in pair.on(torch.ones(3, 1, 1)))
        mask = _mask(torch.maximum(pair.truth[3], pair.coarse[3]))
        normals, strip = pair.normals[None], [coarse]
        rows[COARSE].append([*_scores(coarse, truth, mask), float("nan")])
        for name, refiner in refiners.items():
            refined = refiner.refine(coarse, normals)
            kept = psnr(_last(refiner.refine(truth, normals)), _last(truth)).item()
            rows[name].append([*_scores(refined, truth, mask), kept])
            strip.append(refined)
        if index in shown:
            strips.append(torch.cat([*strip, truth], 3))
    means = {name: np.mean(values, 0) for name, values in rows.items()}
    text = _markdown(data, means)
    write_bytes(out / "report.md", text.encode())
    write_bytes(out / "results.csv", _csv(data, rows).encode())
    sheet = torch.cat(strips, 2)[0].clamp(0, 1).mul(255).round().byte()
    Image.fromarray(sheet.movedim(0, -1).numpy()).save(out / "pictures.png")
    return text


def _scores(image: Tensor, truth: Tensor, mask: Tensor) -> list[float]:
    pictures = _last(image), _last(truth)
    return [value.item() for value in (psnr(*pictures), masked_psnr(*pictures, mask),
                                       ssim(*pictures), masked_ssim(*pictures, mask))]


def _mask(alpha: Tensor) -> Tensor:
    """Where somebody is, or is wrongly shown, and a little around.  # [H, W] -> [1, H, W] bool"""
    near = torch.nn.functional.max_pool2d(alpha[None, None], _SIDE, stride=1, padding=_SIDE // 2)
    return near[0] > 0.5


def _last(images: Tensor) -> Tensor:
    return images.movedim(1, -1)


def _markdown(data: PairDataset, means: dict[str, np.ndarray]) -> str:
    lines = ["# Evaluation of refiners", "",
             f"- {len(data)} views of {len(data.scenes)} scenes that no refiner was trained on, on "
             "white",
             f"- masked: where truth or coarse view shows somebody, and {_SIDE // 2} pixels around",
             "- clean in: the truth goes in instead of the coarse view", "",
             "| views | " + " | ".join(METRICS) + " |", "|---|" + "---|" * len(METRICS)]
    for name, values in means.items():
        cells = ["-" if np.isnan(value) else f"{value:.3f}" for value in values]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _csv(data: PairDataset, rows: dict[str, list[list[float]]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scene", "view", "refiner", *METRICS])
    for name, values in rows.items():
        for (scene, view), line in zip(data.views, values, strict=True):
            writer.writerow([scene.name, view, name, *(f"{value:.6g}" for value in line)])
    return text.getvalue()
