# SPDX-License-Identifier: Apache-2.0
"""Tables, a CSV file and comparison pictures of an evaluation; people drawn over a photo."""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.formats.atomic import write_bytes
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion
from torch import Tensor

from ..core.landmarks import ARMS, HIPS, LEGS, LIMBS, SHOULDERS, Landmark
from ..core.metrics import Lpips, masked_psnr, masked_ssim, psnr, ssim
from ..splat.cameras import Cameras
from ..splat.rasterize import rasterize
from ..splat.splats import DEFAULT_CONFIG, RasterConfig, Splats

# The numbers of one result: its renders from all around against what is really seen there

METRICS = {  # name: column title
    "psnr": "PSNR dB ↑",
    "ssim": "SSIM ↑",
    "lpips": "LPIPS ↓",
    "masked_psnr": "PSNR dB, person ↑",
    "masked_ssim": "SSIM, person ↑",
    "masked_lpips": "LPIPS, person ↓",
    "holes": "holes % ↓",
}
_HOLE = 0.5  # alpha below which the person is missing


@dataclass(frozen=True)
class Views:
    """One result from all around, on white."""

    colour: Tensor  # [C, H, W, 3] 0..1
    alpha: Tensor  # [C, H, W]


@torch.no_grad()
def render_views(splats: Splats, cameras: Cameras, config: RasterConfig = DEFAULT_CONFIG) -> Views:
    """Renders, where the splats are, rounded to the 8 bits of an image file; back on the CPU."""
    white = torch.ones(3, device=splats.means.device)
    views = [
        rasterize(splats, cameras[i].to(splats.means.device), white, config=config)
        for i in range(len(cameras))
    ]
    colour = torch.cat([view.color for view in views]).cpu().clamp(0, 1)
    return Views((colour * 255).round() / 255, torch.cat([view.alpha for view in views]).cpu())


@torch.no_grad()
def score(views: Views, truth: Tensor, mask: Tensor, lpips: Lpips | None) -> dict[str, float]:
    """Means over the views.

    ``masked_lpips`` is that of the images with everything outside the true mask white. ``holes`` is
    the share of the true mask, in percent, that the result leaves more than half transparent.

    Args:
        views: of the result.
        truth: what is really seen, on white.  # [C, H, W, 3]
        mask: which pixels really show the person.  # [C, H, W] bool
        lpips: None where its files are not here; the columns are left out then.
    """
    colour = views.colour
    values = {
        "psnr": psnr(colour, truth),
        "ssim": ssim(colour, truth),
        "masked_psnr": masked_psnr(colour, truth, mask),
        "masked_ssim": masked_ssim(colour, truth, mask),
        "holes": 100 * (mask & (views.alpha < _HOLE)).sum((1, 2)) / mask.sum((1, 2)),
    }
    if lpips is not None:
        only = (torch.where(mask[..., None], image, 1.0) for image in (colour, truth))
        values |= {"lpips": _in_turn(lpips, colour, truth), "masked_lpips": _in_turn(lpips, *only)}
    return {name: float(value.nanmean()) for name, value in values.items()}


def _in_turn(lpips: Lpips, image: Tensor, truth: Tensor) -> Tensor:
    """One view at a time, which bounds the memory."""
    return torch.cat([lpips(a[None], b[None]) for a, b in zip(image, truth, strict=True)])


SHOWN = (0, 4, 8, 12, 16, 20)  # of 24 views, in the pictures
_TITLE = 14  # pixels


@dataclass(frozen=True)
class Row:
    """One person by one system, hidden in one way."""

    occlusion: str  # what is hidden, such as "40", "random"
    system: str
    person: str
    values: dict[str, float]  # empty where it failed
    error: str = ""
    hidden: float = math.nan  # share of the person's pixels, 0..1


@dataclass
class Report:
    """Everything that was measured."""

    facts: list[str]  # about data and systems, for the head
    lpips_missing: str  # why there is no LPIPS; empty where there is
    rows: list[Row] = field(default_factory=list)

    def markdown(self) -> str:
        """One table for each way in which people are hidden."""
        lines = ["# Evaluation of LORM", "", *(f"- {fact}" for fact in self.facts), ""]
        if self.lpips_missing:
            lines += [f"LPIPS is {self.lpips_missing}", ""]
        for occlusion in dict.fromkeys(row.occlusion for row in self.rows):
            rows = [row for row in self.rows if row.occlusion == occlusion]
            lines += [
                f"## {_heading(occlusion, [row.hidden for row in rows])}",
                "",
                "| system | people | " + " | ".join(METRICS.values()) + " |",
                "|---|---|" + "---|" * len(METRICS),
            ]
            for system in dict.fromkeys(row.system for row in rows):
                lines.append(_line(system, [row for row in rows if row.system == system]))
            lines.append("")
        failed = [row for row in self.rows if row.error]
        lines += [f"- {row.system}, {row.person}, {row.occlusion}: {row.error}" for row in failed]
        return "\n".join(lines).rstrip() + "\n"

    def csv(self) -> str:
        """One line a person, system and way of hiding."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["occlusion", "hidden_percent", "system", "person", *METRICS, "error"])
        for row in self.rows:
            writer.writerow(
                [
                    row.occlusion,
                    "" if math.isnan(row.hidden) else f"{100 * row.hidden:.1f}",
                    row.system,
                    row.person,
                    *cells(row.values),
                    row.error,
                ]
            )
        return text.getvalue()

    def write(self, folder: Path) -> tuple[Path, Path]:
        """report.md and results.csv; both whole or not at all."""
        return write_report(folder, self.markdown(), self.csv())


def cells(values: dict[str, float]) -> list[str]:
    """A line of a CSV file: the numbers of METRICS, empty where there is none."""
    return [f"{values[name]:.6g}" if name in values else "" for name in METRICS]


def write_report(folder: Path, markdown: str, csv: str) -> tuple[Path, Path]:
    """Writes report.md and results.csv, each whole or not at all."""
    paths = folder / "report.md", folder / "results.csv"
    for path, text in zip(paths, (markdown, csv), strict=True):
        write_bytes(path, text.encode())
    return paths


def _heading(occlusion: str, shares: list[float]) -> str:
    if not occlusion.isdecimal():
        return f"Occlusion: {occlusion}, {100 * np.mean(shares):.0f} % hidden in the mean"
    return f"{int(occlusion)} % hidden" if int(occlusion) else "Nothing hidden"


def _line(system: str, rows: list[Row]) -> str:
    good = [row for row in rows if not row.error]
    people = f"{len(good)}" if len(good) == len(rows) else f"{len(good)} of {len(rows)}"
    values = [row.values for row in good]
    none = {name: "not available" if "lpips" in name else "-" for name in METRICS}
    means = (mean(name, values, none[name]) for name in METRICS)
    return "| " + " | ".join([system, people, *means]) + " |"


def mean(name: str, rows: Iterable[dict[str, float]], none: str = "-") -> str:
    """The mean of one of METRICS as a table has it; `none` where no row knows it."""
    values = [row[name] for row in rows if math.isfinite(row.get(name, math.nan))]
    if not values:
        return none
    digits = 2 if "psnr" in name or name == "holes" else 4
    return f"{sum(values) / len(values):.{digits}f}"


@dataclass(frozen=True)
class Picture:
    """A row of a comparison: its title and images of one height."""

    title: str
    images: list[np.ndarray]  # [H, W, 3] uint8


def shown(image: np.ndarray, views: np.ndarray) -> list[np.ndarray]:
    """The images of a row: what a system is given, and some of the views [C, H, W, 3] 0..1."""
    chosen = [views[i] for i in SHOWN if i < len(views)]
    return [image, *((255 * view).round().astype(np.uint8) for view in chosen)]


def write_picture(path: Path, pictures: list[Picture], height: int = 200) -> None:
    """A sheet with one line of images for each row."""
    lines = []
    for picture in pictures:
        scaled = [Image.fromarray(image) for image in picture.images]
        scaled = [
            image.resize(
                (round(image.width * height / image.height), height), Image.Resampling.LANCZOS
            )
            for image in scaled
        ]
        line = Image.new("RGB", (sum(image.width for image in scaled), height + _TITLE), "white")
        left = 0
        for image in scaled:
            line.paste(image, (left, _TITLE))
            left += image.width
        ImageDraw.Draw(line).text((3, 1), picture.title, fill="black")
        lines.append(line)
    sheet = Image.new(
        "RGB", (max(line.width for line in lines), sum(line.height for line in lines)), "white"
    )
    top = 0
    for line in lines:
        sheet.paste(line, (0, top))
        top += line.height
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


# People drawn over a photo

LIMB_JOINTS = tuple(Landmark(i).joint for i in (*ARMS, *LEGS))  # shoulders to ankles, 12
_ROW = {int(landmark): row for row, landmark in enumerate((*ARMS, *LEGS))}
_BONES = tuple(
    (_ROW[int(a)], _ROW[int(b)])
    for a, b in (
        *((start, middle) for start, middle, _ in LIMBS),
        *((middle, end) for _, middle, end in LIMBS),
        *zip(SHOULDERS, HIPS),
        tuple(SHOULDERS),
        tuple(HIPS),
    )
)
_TINT = 0.25  # of a mask's colour
_LETTERS = 14  # pixels


@dataclass(frozen=True)
class Drawn:
    """One person over a photo."""

    colour: tuple[int, int, int]
    label: str
    joints: np.ndarray  # [12, 2] photo pixels, in the order of LIMB_JOINTS
    known: np.ndarray  # [12] bool, which of them are drawn
    mask: np.ndarray | None  # [H, W] bool; None: the box is drawn
    box: np.ndarray  # [4] photo pixels, x, y, width, height; the label stands at its corner


def draw_people(photo: np.ndarray, people: list[Drawn], height: int) -> np.ndarray:
    """Masks tinted and outlined, skeletons with white dots on the person's left, and labels.

    Args:
        photo: [H, W, 3] uint8.
        people: who is drawn, the last one on top.
        height: of the picture, pixels.
    """
    scale = height / photo.shape[0]
    size = (round(photo.shape[1] * scale), height)
    pixels = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS)).copy()
    for person in people:
        if person.mask is not None:
            own = np.asarray(Image.fromarray(person.mask).resize(size))
            pixels[own] = (1 - _TINT) * pixels[own] + _TINT * np.array(person.colour)
            pixels[own & ~binary_erosion(own, border_value=1)] = person.colour
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for person in people:
        _skeleton(draw, person, scale)
    for person in people:
        x, y, wide, high = (person.box * scale).tolist()
        if person.mask is None:
            draw.rectangle((x, y, x + max(wide, 0), y + max(high, 0)), outline=person.colour)
        place = tuple(np.clip((x, y), 2, np.maximum(np.array(size) - (80, 20), 2)))
        draw.text(
            place,
            person.label,
            person.colour,
            ImageFont.load_default(_LETTERS),
            stroke_width=1,
            stroke_fill="black",
        )
    return np.asarray(image)


def _skeleton(draw: ImageDraw.ImageDraw, person: Drawn, scale: float) -> None:
    points = [tuple(point) for point in (person.joints * scale).tolist()]
    limbs = [(points[a], points[b]) for a, b in _BONES if person.known[a] and person.known[b]]
    for width, colour in ((5, (0, 0, 0)), (3, person.colour)):
        for limb in limbs:
            draw.line(limb, fill=colour, width=width)
    for name, point, known in zip(LIMB_JOINTS, points, person.known):
        if known:
            fill = "white" if name.startswith("left") else "black"
            draw.circle(point, 3, fill=fill, outline=person.colour)
