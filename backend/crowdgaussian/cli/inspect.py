# SPDX-License-Identifier: Apache-2.0
"""What a scene folder holds and how good it is, as a plain dictionary and as a table."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import CameraInfo, PersonEntry, SceneInfo
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

QUALITY = ("iou", "psnr_db", "coarse_psnr_db", "coverage", "reprojection_px", "feet", "all_round")
PART = "round_"  # of all_round


def inspect_scene(path: str | Path) -> dict[str, Any]:
    """Everything the report says; JSON-ready. Metres, seconds, pixels, dB.

    Raises:
        CrowdGaussianError: no scene, a newer version, or a damaged file (every finished avatar is
            read and checked).
    """
    folder = SceneFolder.open(path)
    info = folder.info
    return {
        "folder": str(path),
        "version": info.version,
        "writer": info.writer,
        "preset": info.preset,
        "body_model": info.body_model,
        "photo": {"name": info.photo.name, "width": info.photo.width, "height": info.photo.height},
        "camera": _camera(info.camera),
        "ground": {
            "feet_spread": info.ground.spread,
            "standing": info.ground.standing,
            "pitch_error": info.ground.pitch_error,
            "height_error": info.ground.height_error,
        },
        "people": [_person(folder, i, entry) for i, entry in enumerate(info.people)],
        "timings": folder.timings.stages,
        "models": [
            {
                "name": m.name,
                "stage": m.stage,
                "version": m.version,
                "file": m.file,
                "blake2b": m.blake2b,
                "licence": m.licence,
                "commercial": m.commercial,
            }
            for m in info.models
        ],
        "commercial_use": info.commercial_use,
        "previews": list(info.previews),
        "warnings": _warnings(info),
    }


def _warnings(whose: SceneInfo | PersonEntry) -> list[dict[str, Any]]:
    return [
        {"code": one.code, "sentence": one.sentence, "box": list(one.box) if one.box else None}
        for one in whose.warnings
    ]


def _camera(camera: CameraInfo | None) -> dict[str, Any] | None:
    if camera is None:
        return None
    centre = camera.to_camera().eye  # [3] scene frame
    focal = float(camera.K[1, 1])
    return {
        "focal_px": focal,
        "focal_source": camera.focal_source,
        "focal_error": camera.focal_error,
        "vertical_fov_degrees": math.degrees(2 * math.atan(camera.height / (2 * focal))),
        "height": float(centre[1]),
        "position": centre.tolist(),
    }


def _person(folder: SceneFolder, index: int, entry: PersonEntry) -> dict[str, Any]:
    record: dict[str, Any] = {
        "index": index,
        "state": entry.state,
        "error": entry.error,
        "flags": list(entry.flags),
        "box": list(entry.box) if entry.box else None,
        "score": entry.score,
        "on_ground": entry.on_ground,
        "occlusion": entry.occlusion,
        "gaussians": entry.gaussians,
        "refinement": entry.refinement,
        "refinement_note": entry.refinement_note,
        "warnings": _warnings(entry),
        **{name: entry.quality.get(name) for name in QUALITY},
        "all_round_parts": {
            name.removeprefix(PART): value
            for name, value in entry.quality.items()
            if name.startswith(PART)
        },
        "seconds": folder.timings.of_person(index),
    }
    coverage = record["coverage"]
    record["holes"] = None if coverage is None else 1.0 - coverage
    if entry.state == "done":
        record |= _placement(folder, index)
    return record


def _placement(folder: SceneFolder, index: int) -> dict[str, Any]:
    avatar = folder.read_avatar(index)
    pelvis = avatar.rest_joints[0] + avatar.transl  # the root joint turns about itself
    camera = folder.info.camera
    distance = None
    if camera is not None:
        distance = float((camera.viewmat @ np.append(pelvis, 1.0))[2])
    height = float(np.ptp(avatar.body.vertices[:, 1]))
    return {"pelvis": pelvis.tolist(), "distance": distance, "body_height": height}


def render_report(report: dict[str, Any], console: Console) -> None:
    """Prints the report as tables."""
    console.print(Group(_headline(report), _people_table(report), _footer(report)))


def _headline(report: dict[str, Any]) -> Text:
    photo, camera = report["photo"], report["camera"]
    text = f"{photo['name']}, {photo['width']} x {photo['height']}, preset {report['preset']}"
    if camera:
        text += (
            f"\ncamera: focal length {camera['focal_px']:.0f} px ({camera['focal_source']}"
            f"{_give_or_take(camera['focal_error'])}), {camera['height']:.2f} m above the "
            f"ground{_floor_words(report['ground'])}"
        )
    return Text(text)


def _give_or_take(error: float) -> str:
    return f", give or take {error:.0%}" if error else ""


def _floor_words(ground: dict[str, Any]) -> str:
    """How sure the floor is, in words."""
    if not ground["standing"]:
        return ""
    people = "1 person" if ground["standing"] == 1 else f"{ground['standing']} people"
    return (
        f" (give or take {ground['height_error']:.0%} and "
        f"{math.degrees(ground['pitch_error']):.1f} degrees of pitch, from {people})"
    )


COLUMNS = (  # title, field, format
    ("occluded", "occlusion", "{:.0%}"),
    ("distance m", "distance", "{:.2f}"),
    ("height m", "body_height", "{:.2f}"),
    ("keypoints px", "reprojection_px", "{:.1f}"),
    ("mask IoU", "iou", "{:.3f}"),
    ("PSNR dB", "psnr_db", "{:.1f}"),
    ("all round", "all_round", "{:.2f}"),
    ("holes", "holes", "{:.2%}"),
    ("feet cm", "feet", "{:+.1f}"),
    ("Gaussians", "gaussians", "{:d}"),
)


def _people_table(report: dict[str, Any]) -> Table:
    table = Table(title=None, pad_edge=False)
    for title in ("person", "state", *(title for title, _, _ in COLUMNS), "seconds", "notes"):
        table.add_column(title, justify="left" if title in ("state", "notes") else "right")
    for person in report["people"]:
        cells = [_cell(person, field, form) for _, field, form in COLUMNS]
        seconds = sum(person["seconds"].values())
        notes = person["error"] or " ".join(filter(None, (*person["flags"], _refined(person))))
        table.add_row(str(person["index"]), person["state"], *cells, f"{seconds:.1f}", Text(notes))
    return table


def _refined(person: dict[str, Any]) -> str:
    """What became of somebody's refinement; the footer says why."""
    return person["refinement"] if person["refinement"] in ("", "refined") else "unrefined"


def _cell(person: dict[str, Any], field: str, form: str) -> str:
    value = person.get(field)
    if value is None:
        return "-"
    return form.format(value * 100 if field == "feet" else value)


def _footer(report: dict[str, Any]) -> Text:
    timings = ", ".join(f"{stage} {s:.1f} s" for stage, s in report["timings"].items())
    unrefined = [person for person in report["people"] if person["refinement_note"]]
    there = [person for person in report["people"] if person["state"] != "failed"]
    checks = [one["sentence"] for whose in (report, *there) for one in whose["warnings"]]
    lines = [
        *(f"person {p['index']} is not refined: {p['refinement_note']}" for p in unrefined),
        f"feet of those who stand: within {report['ground']['feet_spread'] * 100:.1f} cm",
        f"time: {timings or '-'}",
        *(f"{m['stage']}: {m['name']} {m['version']}, {m['licence']}" for m in report["models"]),
        f"commercial use: {'allowed' if report['commercial_use'] else 'NOT allowed'}",
        *(["Check these:"] if checks else []),
        *(f"- {sentence}" for sentence in checks),
    ]
    return Text("\n".join(lines))
