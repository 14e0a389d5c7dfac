# SPDX-License-Identifier: Apache-2.0
"""Training pairs on disk: truth, coarse rendering and normals of the bodies, scene by scene.

    OUT/scene_0000/scene.json          settings, people, what the coarse rendering shows ("damage"
                                       or the appearance stage that rebuilt the people from a
                                       photo), split ("train" or "test"), cameras
                   truth/000.png       RGBA, straight alpha
                   coarse/000.png      the same
                   normals/000.png     colour-coded as in NormalMaps, alpha is the bodies' mask

Every fifth scene is for testing, or as many as asked. A scene is written beside its place and
renamed when whole.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.errors import DamagedFileError, InputError, SettingError, disk_error
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.skinning import join_gaussians
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ...avatar.types import AvatarBuilder
from ...core.progress import Progress, Report, setting, silent
from ...splat import Cameras, Splats, rasterize
from ...splat.normals import render_normals
from ...synthetic.people import render_rgba
from ...synthetic.photo import CoarseCrowd, WholePipeline, damaged, estimated, rebuilt
from ...synthetic.scenes import CrowdScene, DrawActor, compose, face_light, hemisphere_views
from ..distil import ring_cameras
from ..networks.tiling import VIEWS

# A training scene seen from its cameras: truth, coarse rendering, and normals of the bodies


def render_truth(scene: CrowdScene, cameras: Cameras) -> np.ndarray:
    """What is really seen.  # [C, H, W, 4] uint8, straight alpha"""
    vertices = [each.points(each.actor.vertices) for each in scene.people]
    starts = np.cumsum([0, *(len(part) for part in vertices)])
    faces = np.concatenate([each.actor.faces + start for each, start in zip(scene.people, starts)])
    colours = np.concatenate([face_light(each, scene.light, scene.direct) for each in scene.people])
    return np.stack(
        [
            render_rgba(np.concatenate(vertices), faces, colours, camera)
            for camera in cameras.to_cameras()
        ]
    )


def render_gaussians(people: list[Gaussians], cameras: Cameras) -> np.ndarray:
    """What a reconstruction shows.  # [C, H, W, 4] uint8, straight alpha"""
    splats = Splats.from_gaussians(join_gaussians(people))
    views = []
    with torch.no_grad():
        for index in range(len(cameras)):
            seen = rasterize(splats, cameras[index], config=VIEWS)
            alpha = seen.alpha[0, ..., None]
            colour = seen.color[0] / alpha.clamp(min=1e-6)
            views.append(torch.cat([colour, alpha], -1).clamp(0, 1).mul(255).round().byte())
    return torch.stack(views).numpy()


def render_bodies(bodies: np.ndarray, faces: np.ndarray, cameras: Cameras) -> np.ndarray:
    """Normals of the bodies in the colour code of NormalMaps, alpha the mask.

    # [B, V, 3], [F, 3] -> [C, H, W, 4] uint8
    """
    maps = render_normals(bodies, faces, cameras)
    both = np.concatenate([maps.normals, maps.mask[..., None]], -1)
    return (255 * both).round().astype(np.uint8)


FILE, KINDS = "scene.json", ("truth", "coarse", "normals")
DAMAGE = "damage"
_TEST_EVERY = 5  # scenes
_PHOTO = 640  # pixels a side, of the photo that people are rebuilt from
ESTIMATED = "estimated"  # rebuilt by the whole pipeline, which knows the photo alone
_DRAWN = 5  # scenes in turn, for one in whose photo somebody is found


@dataclass(frozen=True)
class ScenesConfig:
    """What to make; the paper has 114 scenes of 126 views."""

    scenes: int = setting(114, "how many")
    views: int = setting(126, "of each")
    size: int = setting(512, "of a view, pixels")
    fewest: int = setting(2, "people of a scene")
    most: int = setting(5, "people of a scene")
    points: int = 20_000  # Gaussians of a clean person
    seed: int = setting(0, "of everything random")
    coarse: tuple[str, ...] = (DAMAGE,)  # scenes take turns: damage, or names of builders
    changes: tuple[str, ...] = ()  # settings of the builders that are not the usual ones
    people: str = ""  # who: empty for made-up people
    rings: int = setting(
        0, "of the views, from where refinement looks; the others from a hemisphere"
    )
    test: int = setting(0, "scenes kept for testing, spread evenly; 0: every fifth")

    def __post_init__(self) -> None:
        if min(self.scenes, self.views) < 1 or not 32 <= self.size <= 2048:
            raise SettingError("Make at least one scene of one view, of 32 to 2048 pixels.")
        if not 1 <= self.fewest <= self.most <= 30:
            raise SettingError("A scene has 1 to 30 people, and --most is at least --fewest.")
        if not 0 <= self.rings <= self.views or self.rings == 1:
            raise SettingError("Of a scene's views none, or at least two, lie on the rings.")
        if not 0 <= self.test < max(self.scenes, 2):
            raise SettingError("Fewer scenes are for testing than there are.")

    def coarse_of(self, index: int) -> str:
        """What the coarse rendering of a scene shows; training and test scenes each take turns."""
        before = self._tests_before(index)
        turn = before if self.is_test(index) else index - before
        return self.coarse[turn % len(self.coarse)]

    def is_test(self, index: int) -> bool:
        """Whether a scene is kept for testing."""
        return self._tests_before(index + 1) > self._tests_before(index)

    def _tests_before(self, index: int) -> int:
        return index * self.test // self.scenes if self.test else index // _TEST_EVERY


def write_scenes(
    out: Path,
    config: ScenesConfig,
    draw_actor: DrawActor,
    report: Report = silent,
    builders: Mapping[str, AvatarBuilder | WholePipeline] | None = None,
    draw_test: DrawActor | None = None,
) -> list[Path]:
    """Makes the scenes that are not there yet.

    Args:
        out: folder.
        config: what to make.
        draw_actor: makes a person.
        report: told about every scene.
        builders: the appearance stages that config.coarse names, and under ESTIMATED all stages.
        draw_test: makes a person of a test scene, where those are others.

    Raises:
        CrowdGaussianError: a scene there was made with other settings, or the disk is full.
    """
    folders = []
    for index in range(config.scenes):
        report(Progress("scenes", index / config.scenes, message=f"{index} of {config.scenes}"))
        folder = out / f"scene_{index:04d}"
        if (folder / FILE).is_file():
            _check_same(folder, config, index)
        else:
            draw = draw_test if draw_test and config.is_test(index) else draw_actor
            kind = config.coarse_of(index)
            builder = None if kind == DAMAGE else (builders or {})[kind]
            write = partial(
                _write_scene, config=config, index=index, draw_actor=draw, builder=builder
            )
            _whole(folder, write)
        folders.append(folder)
    report(Progress("scenes", 1.0))
    return folders


def _write_scene(
    folder: Path,
    config: ScenesConfig,
    index: int,
    draw_actor: DrawActor,
    builder: AvatarBuilder | WholePipeline | None,
) -> None:
    rng = np.random.default_rng([config.seed, index])
    scene, coarse = _draw_scene(config, draw_actor, builder, rng)
    cameras = _cameras(config, scene, coarse)
    views = (
        render_truth(scene, cameras),
        render_gaussians(coarse.gaussians, cameras),
        render_bodies(coarse.bodies, coarse.faces, cameras),
    )
    for kind, pictures in zip(KINDS, views, strict=True):
        (folder / kind).mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / kind / f"{number:03d}.png", compress_level=1)
    about = {
        "settings": _identity(config, index),
        "index": index,
        "people": len(scene.people),
        "coarse": config.coarse_of(index),
        "damage": coarse.chain,
        "split": "test" if config.is_test(index) else "train",
        "K": cameras.Ks.tolist(),
        "viewmat": cameras.viewmats.tolist(),
    }
    (folder / FILE).write_text(json.dumps(about), encoding="utf-8")


def _draw_scene(
    config: ScenesConfig,
    draw_actor: DrawActor,
    builder: AvatarBuilder | WholePipeline | None,
    rng: np.random.Generator,
) -> tuple[CrowdScene, CoarseCrowd]:
    """A scene and what is known of it; another one where the pipeline finds nobody."""
    for left in reversed(range(_DRAWN)):
        scene = compose(draw_actor, (config.fewest, config.most), rng)
        if builder is None:
            return scene, damaged(scene, rng, config.points)
        if not isinstance(builder, WholePipeline):
            return rebuilt(scene, builder, rng, _PHOTO)
        try:
            return estimated(scene, builder, rng, _PHOTO)
        except InputError:
            if not left:
                raise
    raise AssertionError("a scene is drawn or refused")


def _cameras(config: ScenesConfig, scene: CrowdScene, coarse: CoarseCrowd) -> Cameras:
    parts = []
    if config.views > config.rings:
        parts.append(hemisphere_views(scene, config.views - config.rings, config.size))
    if config.rings:
        parts.append(ring_cameras(np.concatenate(coarse.bodies), config.rings, config.size))
    return Cameras.joined(parts)


def _whole(folder: Path, write: Callable[[Path], None]) -> None:
    beside = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        write(beside)
        os.replace(beside, folder)
    except OSError as error:
        raise disk_error(
            error,
            f"{folder} cannot be written ({error}); free some space or "
            "choose another folder, and run again to go on.",
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _identity(config: ScenesConfig, index: int) -> dict:
    """What decides the looks of a scene: not how many there are."""
    values = {
        name: value
        for name, value in asdict(config).items()
        if name not in ("scenes", "coarse", "changes", "people", "rings", "test")
    }
    values |= {name: getattr(config, name) for name in ("people", "rings") if getattr(config, name)}
    if config.test:  # then their number decides too
        values["test"] = f"{config.test} of {config.scenes}"
    if config.coarse_of(index) != DAMAGE:
        values |= {"coarse": config.coarse_of(index), "changes": list(config.changes)}
    return values


def _check_same(folder: Path, config: ScenesConfig, index: int) -> None:
    if _about(folder).get("settings") != _identity(config, index):
        raise SettingError(
            f"{folder} was made with other settings; give the same, or another folder."
        )


def _about(folder: Path) -> dict:
    try:
        return json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedFileError(
            f"{folder / FILE} is damaged; remove that folder and make the scenes again."
        ) from error


@dataclass(frozen=True)
class Pair:
    """One view, as layers that any background can go behind."""

    truth: Tensor  # [4, H, W] float32 0..1, straight alpha
    coarse: Tensor  # [4, H, W]
    normals: Tensor  # [4, H, W] as a Refiner takes them

    def on(self, background: Tensor) -> tuple[Tensor, Tensor]:
        """Coarse and true picture before a background [3, 1, 1].  # [3, H, W] twice"""
        coarse, truth = (
            layer[:3] * layer[3:] + background * (1 - layer[3:])
            for layer in (self.coarse, self.truth)
        )
        return coarse, truth


class PairDataset:
    """The views of the scenes of one split, read when they are asked for."""

    def __init__(self, folder: Path, split: str) -> None:
        """Finds the scenes.

        Args:
            folder: that write_scenes made.
            split: "train" or "test".

        Raises:
            InputError: there are none of that split.
        """
        scenes = [path.parent for path in sorted(folder.glob(f"scene_*/{FILE}"))]
        self.scenes = [scene for scene in scenes if _about(scene).get("split") == split]
        self.views = [
            (scene, path.name)
            for scene in self.scenes
            for path in sorted((scene / "truth").glob("*.png"))
        ]
        if not self.views:
            raise InputError(
                f"{folder} has no scenes to {split} on; make at least five with "
                "`crowdgaussian data crowd-scenes`."
            )

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> Pair:
        scene, name = self.views[index]
        truth, coarse, code = (_read(scene / kind / name) for kind in KINDS)
        if not truth.shape == coarse.shape == code.shape:
            raise DamagedFileError(
                f"The pictures {name} of {scene} differ in size; remove that "
                "folder and make the scenes again."
            )
        normals = torch.cat([(code[:3] * 2 - 1) * code[3:], code[3:]])
        return Pair(truth, coarse, normals)


def _read(path: Path) -> Tensor:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGBA"))
    except (OSError, UnidentifiedImageError) as error:
        raise DamagedFileError(
            f"The image {path} is missing or damaged; remove its scene's folder and make the "
            "scenes again."
        ) from error
    return torch.from_numpy(pixels.copy()).movedim(-1, 0).float() / 255


# What a step of training looks at: parts of views, drawn at random

_TRIES = 8  # for a crop that shows somebody
_BODY = 0.05  # share of such a crop that bodies fill


def draw_crop(
    data: PairDataset, size: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Coarse, true [3, s, s] and normals [4, s, s] of a part of a view, on a random plain colour.

    Mirrored half of the time (normals too); white or any colour behind.
    """
    pair = data[int(rng.integers(len(data)))]
    tint = torch.from_numpy(rng.random(3) if rng.random() < 0.6 else np.full(3, 1.0)).float()
    coarse, truth = pair.on(tint[:, None, None])
    height, width = truth.shape[1:]
    side = min(size, height, width) // 16 * 16
    for _ in range(_TRIES):
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        window = (..., slice(top, top + side), slice(left, left + side))
        if pair.normals[3][window].mean() > _BODY:
            break
    coarse, truth, normals = (picture[window] for picture in (coarse, truth, pair.normals))
    if rng.random() < 0.5:
        coarse, truth, normals = (part.flip(-1) for part in (coarse, truth, normals))
        normals = normals * torch.tensor([-1.0, 1, 1, 1])[:, None, None]
    return coarse, truth, normals
