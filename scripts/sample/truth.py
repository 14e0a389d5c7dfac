# SPDX-License-Identifier: Apache-2.0
"""Write the ground truth beside the picture: camera, body parameters, joints, masks."""

import json
from pathlib import Path

import numpy as np
from crowdgaussian.body import BodyModel
from crowdgaussian_shared.geometry.camera import Camera
from PIL import Image

from .cast import Character
from .figures import Parameters, run_body

FOCAL_35MM = 42  # the 35 mm equivalent, written into the photo as a camera would
EXIF_IFD, FOCAL_LENGTH_35MM = 0x8769, 0xA405


def _coverage(stage: Path, kind: str, people: int) -> np.ndarray:
    """Alpha of each person, 0..1.  # [P, H, W]"""
    alphas = [np.asarray(Image.open(stage / f"{kind}_{k}.png"))[..., 3] for k in range(people)]
    return np.stack(alphas) / 255.0


def visible_ids(visible: np.ndarray) -> np.ndarray:
    """Who is seen at each pixel: person index + 1, 0 for nobody.  # [P, H, W] -> [H, W] uint8"""
    shares = np.concatenate([1 - visible.sum(axis=0, keepdims=True), visible])
    return shares.argmax(axis=0).astype(np.uint8)


def _person(who: Character, values: Parameters, model: BodyModel, camera: Camera) -> dict:
    joints = run_body(model, values)[3]
    pixels, depths = camera.project(joints)
    return {
        "name": who.name,
        "age": who.age,
        "stature": who.stature,
        "betas": values.betas.round(6).tolist(),
        "pose": values.pose.round(6).tolist(),
        "transl": values.transl.round(6).tolist(),
        "scale": round(values.scale, 7),
        "joints": joints.round(5).tolist(),
        "joints_px": pixels.round(3).tolist(),
        "depth": round(float(depths[0]), 5),
    }


def write_picture(stage: Path, out: Path, quality: int, chroma: int) -> None:
    """Write sample.jpg; quality and chroma are Pillow's quality and subsampling."""
    photo = Image.open(stage / "photo.png").convert("RGB")
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[FOCAL_LENGTH_35MM] = FOCAL_35MM
    photo.save(out / "sample.jpg", quality=quality, subsampling=chroma, optimize=True, exif=exif)


def write_truth(
    stage: Path,
    out: Path,
    model: BodyModel,
    camera: Camera,
    people: list[tuple[Character, Parameters]],
) -> None:
    """Write masks.png (visible), amodal.png (a bit per person) and ground_truth.json."""
    visible = visible_ids(_coverage(stage, "visible", len(people)))
    amodal = _coverage(stage, "amodal", len(people)) > 0.5
    bits = sum(mask.astype(np.uint8) << k for k, mask in enumerate(amodal))
    Image.fromarray(visible).save(out / "masks.png", optimize=True)
    Image.fromarray(bits.astype(np.uint8)).save(out / "amodal.png", optimize=True)
    persons = []
    for index, (who, values) in enumerate(people):
        person = _person(who, values, model, camera)
        shown, whole = (visible == index + 1).sum(), amodal[index].sum()
        person["visible_fraction"] = round(float(shown / max(whole, 1)), 4)
        persons.append(person)
    document = {
        "about": "Six people of the open body; scene frame, metres, radians; see __init__.py.",
        "body": model.name,
        "camera": {
            "K": camera.K.tolist(),
            "viewmat": camera.viewmat.tolist(),
            "width": camera.width,
            "height": camera.height,
        },
        "people": persons,
    }
    (out / "ground_truth.json").write_text(json.dumps(document, separators=(",", ":")) + "\n")
