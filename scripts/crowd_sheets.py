# SPDX-License-Identifier: Apache-2.0
"""Sheets to judge people by from outside: each from four sides and in another pose.

    .venv/backend/bin/python scripts/crowd_sheets.py --out sheets SCENE [SCENE ...]
    .venv/backend/bin/python scripts/crowd_sheets.py --out sheets --before OLD_SCENE NEW_SCENE

One PNG a scene folder. A row a person: the photo around them, then the avatar in the photo's pose
from the photo's side, from their left of that, from behind it and from the right, and in a stride
with an arm raised. With --before, the row of the older scene of the same photo stands above.
"""

import argparse
from pathlib import Path

from crowdgaussian.core.progress import prepare_process

prepare_process()  # before torch and numba are imported

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from crowdgaussian.splat.cameras import Cameras  # noqa: E402
from crowdgaussian.splat.rasterize import rasterize  # noqa: E402
from crowdgaussian.splat.splats import Splats  # noqa: E402
from crowdgaussian_shared.geometry.avatar import Avatar, Gaussians  # noqa: E402
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX  # noqa: E402
from crowdgaussian_shared.geometry.skinning import pose_avatar  # noqa: E402
from crowdgaussian_shared.scene.folder import SceneFolder  # noqa: E402
from PIL import Image  # noqa: E402

CELL = 260  # pixels a side
GAP = 6  # pixels between cells, where they are trimmed
BEHIND = (0.50, 0.55, 0.60)  # sRGB: white shirts and dark hair stand out from it alike
SIDES = (0, 90, 180, 270)  # degrees around the vertical, from the photo's camera
POSED_FROM = 25  # degrees beside the front, for the other pose
AWAY = 4.0  # metres from the person
FILLED = 1.08  # of a cell's side to what it shows
OUTLIERS = 0.002  # quantile of Gaussians that may leave a cell
AROUND = 0.15  # of a box's size, around it in the photo
STRIDE = {  # axis-angle, radians
    "left_hip": (-0.55, 0, 0),
    "left_knee": (0.25, 0, 0),
    "right_hip": (0.4, 0, 0),
    "right_knee": (0.45, 0, 0),
    "left_shoulder": (0, 0, -1.1),
    "right_shoulder": (0, 0, -0.9),
    "right_elbow": (0, 0.4, 0),
}


def main() -> None:
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for path in arguments.scene:
        older = SceneFolder.open(arguments.before) if arguments.before else None
        sheet = make_sheet(SceneFolder.open(path), older, arguments.people, arguments.cell)
        target = arguments.out / f"{path.resolve().name}.png"
        Image.fromarray(sheet).save(target)
        print(target)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", type=Path, nargs="+", help="scene folders")
    parser.add_argument("--before", type=Path, help="an older scene folder of the one photo")
    parser.add_argument("--out", type=Path, required=True, help="folder for the sheets")
    parser.add_argument("--people", type=int, nargs="+", help="only these, by their number")
    parser.add_argument("--cell", type=int, default=CELL, help="pixels a side")
    return parser.parse_args()


def make_sheet(
    scene: SceneFolder, older: SceneFolder | None, people: list[int] | None, cell: int
) -> np.ndarray:
    """Rows of cells.  # [H, W, 3] uint8 sRGB"""
    photo = np.asarray(Image.open(scene.photo_path).convert("RGB"))
    rows = []
    for index in people or range(len(scene.info.people)):
        other = counterpart(scene, index, older) if older else None
        for folder, number, title in ((older, other, "before"), (scene, index, "after")):
            if folder is None or number is None or folder.info.people[number].state != "done":
                continue
            name = f"{number} {title}" if older else f"{number}"
            around = photo_cell(photo, folder.info.people[number].box, cell, name)
            rows.append([around, *avatar_cells(folder, number, cell)])
    if not rows:
        raise SystemExit(f"{scene.path}: nobody is done.")
    return np.hstack([trimmed(np.vstack(column)) for column in zip(*rows)])


def trimmed(column: np.ndarray) -> np.ndarray:
    """A column of cells without the empty strips at its sides.  # [H, w, 3] uint8"""
    empty = (np.array(BEHIND) * 255).round().astype(np.uint8)
    used = np.flatnonzero((column != empty).any((0, 2)))
    return column[:, max(used[0] - GAP, 0) : used[-1] + GAP] if len(used) else column


def counterpart(scene: SceneFolder, index: int, older: SceneFolder) -> int | None:
    """Who of an older scene is this person: the one whose box overlaps theirs most."""
    box = scene.info.people[index].box
    if box is None:
        return index if index < len(older.info.people) else None
    shares = [overlap(box, entry.box) if entry.box else 0.0 for entry in older.info.people]
    best = int(np.argmax(shares))
    return best if shares[best] > 0 else None


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    areas = [float(np.prod(np.subtract(box[2:], box[:2]))) for box in (one, other)]
    return both / max(sum(areas) - both, 1e-9)


def photo_cell(
    photo: np.ndarray, box: tuple[float, ...] | None, cell: int, title: str
) -> np.ndarray:
    """The photo around a person, with a title.  # [cell, cell, 3] uint8"""
    height, width = photo.shape[:2]
    low, high = np.array(box or (0, 0, width, height), float).reshape(2, 2)
    side = (high - low).max() * (1 + 2 * AROUND)
    corner = (low + high - side) / 2
    factor = cell / side
    move = np.array([[factor, 0, -factor * corner[0]], [0, factor, -factor * corner[1]]])
    picture = cv2.warpAffine(photo, move, (cell, cell), flags=cv2.INTER_AREA)
    for colour, width in ((0, 0, 0), 3), ((255, 255, 255), 1):
        cv2.putText(picture, title, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, width)
    return picture


def avatar_cells(folder: SceneFolder, index: int, cell: int) -> list[np.ndarray]:
    """The avatar from four sides and in another pose.  # five [cell, cell, 3] uint8"""
    avatar, camera = folder.read_avatar(index), folder.info.camera
    shown = pose_avatar(avatar)
    toward = camera.to_camera().eye - shown.means.mean(0) if camera else np.array([0.0, 0, 1])
    first = np.degrees(np.arctan2(toward[0], toward[2]))
    sides = render(shown, [first + turn for turn in SIDES], cell)
    return [*sides, *render(in_stride(avatar), [POSED_FROM], cell)]


def in_stride(avatar: Avatar) -> Gaussians:
    """The avatar upright, walking towards +z with an arm raised."""
    pose = np.zeros_like(avatar.pose)
    for name, turn in STRIDE.items():
        pose[JOINT_INDEX[name]] = turn
    return pose_avatar(avatar, pose, np.zeros(3, np.float32))


def render(gaussians: Gaussians, degrees: list[float], cell: int) -> list[np.ndarray]:
    """The cloud from level cameras at these azimuths, filling the cells.  # [cell, cell, 3]"""
    low, high = np.quantile(gaussians.means, (OUTLIERS, 1 - OUTLIERS), axis=0)
    around = Cameras.orbit((low + high) / 2, AWAY * np.ptp((low, high), axis=0).max(), 360)
    cameras = around[[round(turn) % 360 for turn in degrees]].resize(cell, cell)
    inside = ((gaussians.means >= low) & (gaussians.means <= high)).all(1)
    cameras = cameras.framed(torch.from_numpy(gaussians.means[inside]), FILLED)
    behind = torch.tensor(BEHIND)
    with torch.no_grad():
        colour = rasterize(Splats.from_gaussians(gaussians), cameras, behind).color.clamp(0, 1)
    return list((255 * colour).round().byte().numpy())


if __name__ == "__main__":
    main()
