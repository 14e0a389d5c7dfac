# SPDX-License-Identifier: Apache-2.0
"""What nobody photographed of held-out dressed people: the rules against the completion network.

    python benchmarks/completion.py --makehuman FOLDER [--people 44] [--weights FILE] [--quick] ...

The people are those of benchmarks/clothed.py --held-out; body and masks are the true ones, the pose
stays as it is. Everything up to the last filling is done once a person. Printed for the rules and
for shares of the network (complete.share): PSNR of unseen Gaussians against the true surface
nearest to them, PSNR of six views around where the photo does not show the person and where it
does, silhouette IoU, seconds of the last step; by the surface for how many people it is better than
the rules, and the worst change.
"""

import argparse
import pickle
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crowdgaussian.core.progress import prepare_process, silent

prepare_process()  # before torch and numba are imported

import clothed  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from crowdgaussian.avatar.color_completion import Completion  # noqa: E402
from crowdgaussian.avatar.photo_fit import PhotoFit  # noqa: E402
from crowdgaussian.avatar.types import PhotoFitConfig  # noqa: E402
from crowdgaussian.body import load_body  # noqa: E402
from crowdgaussian.completion.config import CompleteConfig  # noqa: E402
from crowdgaussian.completion.stage import open_completion  # noqa: E402
from crowdgaussian.core.mesh import face_normals, unit  # noqa: E402
from crowdgaussian.splat.rasterize import rasterize  # noqa: E402
from crowdgaussian.splat.splats import Splats  # noqa: E402
from crowdgaussian.synthetic.dressed import dressed_actor  # noqa: E402
from crowdgaussian.synthetic.people import lit  # noqa: E402
from crowdgaussian_shared.geometry.rotations import quat_to_matrix  # noqa: E402
from crowdgaussian_shared.geometry.sh import sh_to_colour  # noqa: E402
from crowdgaussian_shared.geometry.skinning import pose_avatar  # noqa: E402
from PIL import Image  # noqa: E402
from scipy.spatial import cKDTree  # noqa: E402

RULES = "rules"
UNSEEN = 0.1  # of how well a Gaussian is seen
TURN = 0.05  # metres that a turn of the normal by one radian counts when the true place is sought
COLUMNS = ("surface", "unseen", "seen", "IoU", "seconds")


@dataclass
class Surface:
    """The true person's triangles in the photo."""

    middle: np.ndarray  # [F, 3] metres
    normal: np.ndarray  # [F, 3]
    colours: np.ndarray  # [F, 3] sRGB in the scene's light


@dataclass
class Fitted:
    """A person before the last filling."""

    case: clothed.Case
    surface: Surface
    kept: tuple[Any, ...]  # what PhotoFit's last step takes


class KeepingFit(PhotoFit):
    """Keeps what its last step is given."""

    kept: tuple[Any, ...] = ()

    def _coloured(self, *given):
        self.kept = given
        return super()._coloured(*given)


def fitted(index: int, options: argparse.Namespace, config: PhotoFitConfig) -> Fitted:
    """Person number index up to the last filling, kept in a file."""
    path = options.cache and options.cache / f"{index:03d}.pkl"
    if path and path.is_file():
        return pickle.loads(path.read_bytes())
    look, body = clothed.look_of(index, not options.seen_kinds), load_body("open")
    case = clothed.make_case(index, look, options.makehuman, 0)
    rng = np.random.default_rng([clothed.SEED, index])  # draws the same person as make_case
    actor = dressed_actor(body, options.makehuman, rng, look)
    corners = actor.vertices[actor.faces]
    normal = unit(face_normals(actor.vertices, actor.faces))
    surface = Surface(corners.mean(1), normal, lit(actor.face_colours, normal))
    fit = KeepingFit(config, body)
    next(fit.reconstruct(case.view, [0], silent)).result()
    made = Fitted(case, surface, fit.kept)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(made))
    return made


def measured(
    made: Fitted, config: PhotoFitConfig, completion: Completion | None
) -> tuple[list[float], np.ndarray]:
    """A row of COLUMNS, and the views around [C, H, W, 4]."""
    fit, begun = PhotoFit(config, load_body("open"), completion), time.process_time()
    avatar = fit._coloured(*made.kept)
    taken = time.process_time() - begun
    with torch.no_grad():
        render = rasterize(Splats.from_gaussians(pose_avatar(avatar)), made.case.cameras)
    views = torch.cat([render.color, render.alpha[..., None]], -1).numpy()
    iou, unseen, seen = clothed.scores(made.case, views)
    return [surface_psnr(made, avatar), unseen, seen, iou, taken], views


def surface_psnr(made: Fitted, avatar) -> float:
    """Of unseen Gaussians, by area, against the true surface nearest to them, decibels."""
    cloud, seen, surface = made.kept[0], made.kept[5], made.surface
    gaussians = pose_avatar(avatar)
    normals = quat_to_matrix(gaussians.quats)[:, :, 2]
    tree = cKDTree(np.concatenate([surface.middle, TURN * surface.normal], 1))
    _, nearest = tree.query(np.concatenate([gaussians.means, TURN * normals], 1))
    colours = sh_to_colour(np.asarray(gaussians.sh)[:, :1]).reshape(-1, 3)
    error = ((colours - surface.colours[nearest]) ** 2).mean(1)
    weight = cloud.radius**2 * (seen < UNSEEN)
    return -10 * np.log10((weight * error).sum() / weight.sum())


def print_table(rows: np.ndarray, names: list[str], hidden: np.ndarray) -> None:
    """rows: [N, systems, 5]; the first system is the reference."""
    print(f"{'':22}{'':8}" + "".join(f"{name:>9}" for name in COLUMNS) + "   better  worst")
    for group, members in (("all", hidden | True), ("hidden", hidden), ("whole", ~hidden)):
        for k, name in enumerate(names):
            if not members.any():
                continue
            own = rows[members, k]
            gain = own[:, 0] - rows[members, 0, 0]
            means = "".join(f"{value:9.3f}" for value in own.mean(0))
            told = f"{(gain > 0).sum():5}/{len(gain)} {gain.min():6.2f}"
            print(f"{name:22}{group:8}{means} {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--makehuman", type=Path, required=True, help="folder of base.obj")
    parser.add_argument("--people", type=int, default=44)
    parser.add_argument("--seen-kinds", action="store_true", help="of clothes that training has")
    parser.add_argument("--weights", default="", help="of the network; none: the one that ships")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--quick", action="store_true", help="small pictures, few steps")
    parser.add_argument("--cache", type=Path, help="folder for people")
    parser.add_argument("--sheets", type=Path, help="folder for pictures")
    options = parser.parse_args()
    config = replace(clothed.QUICK if options.quick else PhotoFitConfig(), pose_steps=0)
    body, systems = load_body("open"), dict[str, Completion | None]({RULES: None})
    for share in options.shares:
        given = CompleteConfig(options.weights, share)
        systems[f"network {share:g}"] = open_completion(given, body)
    rows, hidden = [], []
    for index in range(options.people):
        made = fitted(index, options, config)
        built = [measured(made, config, each) for each in systems.values()]
        rows.append([row for row, _ in built])
        hidden.append(made.case.hidden)
        told = " ".join(f"{row[0]:.2f}/{row[1]:.2f}" for row, _ in built)
        print(f"{index:3} {made.case.look} hidden {made.case.hidden}: {told}", flush=True)
        if options.sheets:
            options.sheets.mkdir(parents=True, exist_ok=True)
            picture = clothed.sheet(made.case, [views for _, views in built])
            Image.fromarray(picture).save(options.sheets / f"{index:03d}.png")
    print_table(np.array(rows), list(systems), np.array(hidden))


if __name__ == "__main__":
    main()
