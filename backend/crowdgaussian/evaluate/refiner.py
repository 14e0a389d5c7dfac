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
from crowdgaussian_shared.formats.atomic import write_bytes
from torch import Tensor

from ..core.metrics import Lpips, load_lpips, psnr
from ..core.progress import Progress, Report, silent
from ..refiner.training.dataset import PairDataset
from ..refiner.types import Refiner
from ..weights import local_path
from .crowds.people import AROUND, INSIDE, SCORES, near, refine_on_device, score_views
from .crowds.report import COARSE, COLUMNS, cell
from .report import Picture, Views, write_picture

CLEAN = "clean_in_psnr"
_TITLES = {name: COLUMNS[name] for name in SCORES} | {CLEAN: "clean in: PSNR dB ↑"}
_PICTURES = 6


def evaluate_refiners(
    data: PairDataset, out: Path, refiners: dict[str, Refiner], report: Report = silent
) -> str:
    """Measures all of them on the same views on white.

    Args:
        data: the test scenes.
        out: for report.md, results.csv and pictures.png.
        refiners: by name, on the best device.
        report: told about every view.

    Returns:
        The report as Markdown.
    """
    lpips, missing = load_lpips(local_path("vgg16"), local_path("lpips-vgg-heads"))
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in (COARSE, *refiners)}
    shown = set(np.linspace(0, len(data) - 1, _PICTURES).astype(int).tolist())
    lines: list[Picture] = []
    titles = ", ".join(("coarse", *refiners, "truth"))
    for index in range(len(data)):
        report(Progress("evaluate", index / len(data)))
        pair = data[index]
        coarse, truth = (picture[None] for picture in pair.on(torch.ones(3, 1, 1)))
        layers = Views(_last(truth), pair.truth[3:]), near(pair.truth[3:], pair.coarse[3:]), lpips
        normals, strip = pair.normals[None], [coarse]
        rows[COARSE].append(_scores(coarse, *layers))
        for name, refiner in refiners.items():
            refined = refine_on_device(refiner, coarse, normals)
            kept = psnr(_last(refine_on_device(refiner, truth, normals)), _last(truth)).item()
            rows[name].append(_scores(refined, *layers) | {CLEAN: kept})
            strip.append(refined)
        if index in shown:
            scene, view = data.views[index]
            images = [_pixels(picture) for picture in (*strip, truth)]
            lines.append(Picture(f"{scene.name} {Path(view).stem}: {titles}", images))
    text = _markdown(data, rows, missing)
    write_bytes(out / "report.md", text.encode())
    write_bytes(out / "results.csv", _csv(data, rows).encode())
    write_picture(out / "pictures.png", lines, lines[0].images[0].shape[0])
    return text


def _pixels(picture: Tensor) -> np.ndarray:
    """[1, 3, H, W] 0..1 -> [H, W, 3] uint8"""
    return picture[0].clamp(0, 1).mul(255).round().byte().movedim(0, -1).numpy()


def _scores(image: Tensor, truth: Views, mask: Tensor, lpips: Lpips | None) -> dict[str, float]:
    return score_views(Views(_last(image), mask.float()), truth, mask, lpips)


def _last(images: Tensor) -> Tensor:
    return images.movedim(1, -1)


def _markdown(data: PairDataset, rows: dict[str, list[dict[str, float]]], missing: str) -> str:
    lines = [
        "# Evaluation of refiners",
        "",
        f"- {len(data)} views of {len(data.scenes)} scenes that no refiner was trained on, on "
        "white",
        f"- masked: where truth or coarse view shows somebody, and {AROUND // 2} pixels more",
        f"- inside: where the truth does, and {INSIDE // 2} pixels around too",
        "- clean in: the truth goes in instead of the coarse view",
    ]
    if missing:
        lines.append(f"- LPIPS is {missing}")
    lines += [
        "",
        "| views | " + " | ".join(_TITLES.values()) + " |",
        "|---|" + "---|" * len(_TITLES),
    ]
    for name, values in rows.items():
        means = {
            column: float(np.mean([value.get(column, np.nan) for value in values]))
            for column in _TITLES
        }
        lines.append(
            f"| {name} | "
            + " | ".join(cell(column, value) for column, value in means.items())
            + " |"
        )
    return "\n".join(lines) + "\n"


def _csv(data: PairDataset, rows: dict[str, list[dict[str, float]]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scene", "view", "refiner", *_TITLES])
    for name, values in rows.items():
        for (scene, view), line in zip(data.views, values, strict=True):
            cells = (f"{line[column]:.6g}" if column in line else "" for column in _TITLES)
            writer.writerow([scene.name, view, name, *cells])
    return text.getvalue()
