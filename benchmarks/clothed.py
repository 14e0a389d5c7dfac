# SPDX-License-Identifier: Apache-2.0
"""Dressed made-up people rebuilt from one photo, against how they look from all around.

    python benchmarks/clothed.py --makehuman FOLDER [--people 44] [--quick] [--noise 0.1] ...

FOLDER holds MakeHuman's base.obj (CC0). Each person has a quarter of the people's outfits: skirts,
T-shirts with shorts, jackets over trousers, and any of them under long hair; with --held-out, which
needs FOLDER/base with MakeHuman's garments, outfits and hair that `data completion` shows to no
network: two suits, a skirt suit, a jacket over a shirt. Every second one is partly hidden. Body and
masks are the true ones; --noise moves the body away, as an estimate is. Printed: silhouette IoU
over six views around, PSNR there inside the true outline of what the photo shows and of what it
does not, and seconds a person, for each variant.
"""

import argparse
import pickle
import time
from dataclasses import dataclass, replace
from pathlib import Path

from crowdgaussian.core.progress import prepare_process, silent

prepare_process()  # before torch and numba are imported

import numpy as np  # noqa: E402
import torch  # noqa: E402
from crowdgaussian.avatar.photo_fit import PhotoFit  # noqa: E402
from crowdgaussian.avatar.types import PhotoFitConfig  # noqa: E402
from crowdgaussian.body import load_body  # noqa: E402
from crowdgaussian.core.landmarks import Landmark  # noqa: E402
from crowdgaussian.core.mesh import face_normals, unit  # noqa: E402
from crowdgaussian.lorm.training.occlusion import simulate  # noqa: E402
from crowdgaussian.people.types import Crowd, Keypoints, Person, person_from_parameters  # noqa: E402
from crowdgaussian.segment.types import CrowdView, PersonMask  # noqa: E402
from crowdgaussian.splat.cameras import Cameras  # noqa: E402
from crowdgaussian.splat.normals import render_mesh_depth  # noqa: E402
from crowdgaussian.splat.rasterize import rasterize  # noqa: E402
from crowdgaussian.splat.splats import Splats  # noqa: E402
from crowdgaussian.synthetic.dressed import Look, dressed_actor, held_out_look  # noqa: E402
from crowdgaussian.synthetic.people import lit, render_rgba  # noqa: E402
from crowdgaussian.synthetic.scenes import Actor  # noqa: E402
from crowdgaussian_shared.geometry.skinning import pose_avatar  # noqa: E402
from PIL import Image  # noqa: E402

SKIRTS, SHORTS = ("skirt", "female_elegantsuit01"), ("shorts", "female_casualsuit02")
JACKETS = "jacket", "male_casualsuit05", "male_elegantsuit01"
OUTFITS = ("skirt", "shorts", "jacket")
SEED, VIEWS, VIEW_PX, PHOTO_PX = 77, 6, 256, 512
FOV, ON_SURFACE = 0.4, 0.012  # radians; metres behind the z-buffer that still are its surface
QUICK = PhotoFitConfig(gaussians=12_000, max_crop_px=400, colour_steps=16)
SEEN_BY_KEYPOINTS = 0.9  # confidence of the joints of a body that is moved away
VARIANTS = {  # whether skirts and hair leave the body, and whether the pose is refined
    "tight": (False, False),
    "tight, refined": (False, True),
    "loose": (True, False),
    "loose, refined": (True, True),
}


@dataclass(frozen=True)
class Case:
    """One person, the photo, and the truth."""

    look: Look
    hidden: bool
    view: CrowdView
    cameras: Cameras
    truth: np.ndarray  # [C, H, W, 4] uint8
    seen: np.ndarray  # [C, H, W] bool: shows what the photo shows


def look_of(index: int, held_out: bool) -> Look:
    """What person number index wears; the same each time."""
    if held_out:
        return held_out_look(index)
    outfit = OUTFITS[index % 4] if index % 4 < 3 else OUTFITS[index // 4 % 3]
    return Look(outfit, "long" if index % 4 == 3 else "short")


def make_case(index: int, look: Look, folder: Path, noise: float) -> Case:
    """Person number index; the same each time."""
    rng, body = np.random.default_rng([SEED, index]), load_body("open")
    actor = dressed_actor(body, folder, rng, look)
    middle = (actor.vertices.min(0) + actor.vertices.max(0)) / 2
    reach = 0.62 * float(np.ptp(actor.vertices[:, 1])) / np.tan(FOV / 2)
    photo_camera = Cameras.orbit(middle, reach, 24, rng.uniform(-0.02, 0.1), FOV, PHOTO_PX)
    camera = photo_camera.to_cameras()[int(rng.integers(-4, 5)) % 24]
    cameras = Cameras.orbit(middle, reach, VIEWS, 0.05, FOV, VIEW_PX)
    colours = lit(actor.face_colours, unit(face_normals(actor.vertices, actor.faces)))
    picture = render_rgba(actor.vertices, actor.faces, colours, camera)
    full = picture[..., 3] >= 128
    hidden = np.zeros_like(full)
    if index // 4 % 2:
        joints = body.posed(actor.params).joints.astype(np.float64)
        hidden = simulate(full, camera.project(joints)[0], rng).dilated
    photo = _photo(picture, hidden, rng)
    visible = full & ~hidden
    mask = PersonMask(visible, full, 1 - visible.sum() / full.sum())
    person = _person(actor, visible, camera, noise, rng)
    crowd = Crowd((person,), camera, "option", (True,))
    views = [render_rgba(actor.vertices, actor.faces, colours, c) for c in cameras.to_cameras()]
    seen = [_seen(actor, c, camera, visible) for c in cameras.to_cameras()]
    view = CrowdView(photo, crowd, [mask])
    return Case(look, bool(hidden.any()), view, cameras, np.stack(views), np.stack(seen))


def _photo(picture: np.ndarray, hidden: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    alpha = picture[..., 3:] / 255
    wall = 255 * (rng.uniform(0.3, 0.9) + rng.normal(0, 0.05, 3)).clip(0, 1)
    photo = picture[..., :3] * alpha + wall * (1 - alpha)
    photo = np.where(hidden[..., None], 255 * rng.uniform(0.1, 0.9, 3), photo)
    return (photo + rng.normal(0, 2, photo.shape)).clip(0, 255).astype(np.uint8)


def _person(actor: Actor, visible: np.ndarray, camera, noise: float, rng) -> Person:
    """The true body, or one beside it with keypoints of the true joints; not known to be true."""
    if noise == 0:
        return replace(person_from_parameters(actor.params, visible), flags=())
    given, size = actor.params, noise * np.array([0.3] * 3 + [1] * 19 + [0] * 33)[:, None]
    pose = given.pose + size * rng.standard_normal((55, 3))
    betas = given.betas + 5 * noise * rng.standard_normal(len(given.betas))
    shift = 0.2 * noise * rng.standard_normal(3)
    moved = replace(
        given,
        pose=pose.astype(np.float32),
        betas=betas.astype(np.float32),
        transl=(given.transl + shift).astype(np.float32),
    )
    places = actor.body.posed(given).landmarks.astype(np.float64)
    pixels = camera.project(places)[0] + rng.normal(0, 0.1 * noise * 300, (len(places), 2))
    inside = pixels.astype(int).clip(0, PHOTO_PX - 1)
    confidence = np.where(visible[inside[:, 1], inside[:, 0]], SEEN_BY_KEYPOINTS, 0.1)
    keypoints = Keypoints(
        pixels.astype(np.float32),
        confidence.astype(np.float32),
        np.zeros((len(Landmark), 3), np.float32),
    )
    return replace(person_from_parameters(moved, visible), keypoints=keypoints, flags=())


def _seen(actor: Actor, camera, photo_camera, visible: np.ndarray) -> np.ndarray:
    """Which pixels of a view show what the photo shows.  # [H, W] bool"""
    depth, index = render_mesh_depth(actor.vertices, actor.faces, camera)
    depth, shown = np.asarray(depth, np.float64), np.asarray(index) >= 0
    rows, columns = np.nonzero(shown)
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    local = np.linalg.solve(camera.K, pixels) * depth[rows, columns]
    rotation, shift = camera.viewmat[:3, :3], camera.viewmat[:3, 3]
    points = (local.T - shift) @ rotation
    nearest, _ = render_mesh_depth(actor.vertices, actor.faces, photo_camera)
    place, away = photo_camera.project(points)
    column, row = place.astype(int).clip(0, PHOTO_PX - 1).T
    shown[rows, columns] = (away < np.asarray(nearest)[row, column] + ON_SURFACE) & visible[
        row, column
    ]
    return shown


def rebuild(case: Case, config: PhotoFitConfig) -> tuple[np.ndarray, float]:
    """Views of the avatar [C, H, W, 4] float 0..1, and the seconds it took."""
    begun = time.process_time()
    fit = PhotoFit(config, load_body("open"))
    avatar = next(fit.reconstruct(case.view, [0], silent)).result()
    taken = time.process_time() - begun
    with torch.no_grad():
        render = rasterize(Splats.from_gaussians(pose_avatar(avatar)), case.cameras)
    return torch.cat([render.color, render.alpha[..., None]], -1).numpy(), taken


def scores(case: Case, views: np.ndarray) -> np.ndarray:
    """IoU, PSNR unseen, PSNR seen.  # [3]"""
    truth, mine = case.truth[..., 3] >= 128, views[..., 3] >= 0.5
    iou = (truth & mine).sum((1, 2)) / (truth | mine).sum((1, 2))
    alpha = case.truth[..., 3:] / 255
    wanted = case.truth[..., :3] / 255 * alpha + 1 - alpha
    error = ((views[..., :3].clip(0, 1) + 1 - views[..., 3:] - wanted) ** 2).mean(-1)
    decibels = [
        -10 * np.log10(error[truth & part].mean() + 1e-9) for part in (~case.seen, case.seen)
    ]
    return np.array([iou.mean(), *decibels])


def sheet(case: Case, built: list[np.ndarray]) -> np.ndarray:
    """The photo, then the truth and each variant from around.  # [H, W, 3] uint8"""
    photo = np.asarray(Image.fromarray(case.view.photo).resize((VIEW_PX, VIEW_PX)))
    alpha = case.truth[..., 3:] / 255
    rows = [(case.truth[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)]
    rows += [(255 * (v[..., :3] + 1 - v[..., 3:]).clip(0, 1)).astype(np.uint8) for v in built]
    return np.concatenate([np.concatenate([photo, *row], 1) for row in rows])


def _cached(path: Path | None, index: int, look: Look, folder: Path, noise: float) -> Case:
    """The case, kept in a file."""
    if path is not None and path.is_file():
        return pickle.loads(path.read_bytes())
    made = make_case(index, look, folder, noise)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(made))
    return made


def _variant(base: PhotoFitConfig, name: str) -> PhotoFitConfig:
    loose, refined = VARIANTS[name]
    return replace(base, loose=loose, pose_steps=base.pose_steps if refined else 0)


def _print(looks: list[tuple[Look, bool]], table: np.ndarray, names: list[str]) -> None:
    """table: [N, variants, 4]"""
    groups = {
        "all": np.ones(len(looks), bool),
        "skirts": np.array([look.outfit in SKIRTS for look, _ in looks]),
        "long hair": np.array([look.hair.startswith("long") for look, _ in looks]),
        "shorts": np.array([look.outfit in SHORTS for look, _ in looks]),
        "jackets": np.array([look.outfit in JACKETS for look, _ in looks]),
        "hidden": np.array([hidden for _, hidden in looks]),
    }
    print(f"{'':16}{'':12}   n    IoU  unseen   seen  seconds")
    for group, members in groups.items():
        for k, name in enumerate(names):
            if members.any():
                iou, unseen, seen, seconds = table[members, k].mean(0)
                print(
                    f"{name:16}{group:12}{members.sum():4} {iou:6.3f} {unseen:7.2f} {seen:6.2f}"
                    f" {seconds:8.1f}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--makehuman", type=Path, required=True, help="folder of base.obj")
    parser.add_argument("--people", type=int, default=44)
    parser.add_argument("--held-out", action="store_true", help="whom training never sees")
    parser.add_argument("--noise", type=float, default=0, help="radians, of the given bodies")
    parser.add_argument("--quick", action="store_true", help="small pictures, few steps")
    parser.add_argument("--cache", type=Path, help="folder for people")
    parser.add_argument("--sheets", type=Path, help="folder for pictures")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    options = parser.parse_args()
    base = QUICK if options.quick else PhotoFitConfig()
    looks, rows = [], []
    for index in range(options.people):
        look = look_of(index, options.held_out)
        name = f"{index:03d}_{look.outfit}_{look.hair}_{options.noise}.pkl"
        path = options.cache and options.cache / name
        case = _cached(path, index, look, options.makehuman, options.noise)
        built = [rebuild(case, _variant(base, name)) for name in options.variants]
        looks.append((case.look, case.hidden))
        rows.append([[*scores(case, views), taken] for views, taken in built])
        told = " ".join(f"{row[0]:.3f}" for row in rows[-1])
        print(f"{index:3} {case.look} hidden {case.hidden}: {told}", flush=True)
        if options.sheets:
            options.sheets.mkdir(parents=True, exist_ok=True)
            picture = sheet(case, [views for views, _ in built])
            Image.fromarray(picture).save(options.sheets / f"{index:03d}.png")
    _print(looks, np.array(rows), options.variants)


if __name__ == "__main__":
    main()
