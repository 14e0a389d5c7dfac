# SPDX-License-Identifier: Apache-2.0
"""What a photo shows of a dressed person and what is really there, place by place of the body.

Data of the completion network: the same places of the open body for everybody; per person (a
geometry) several looks (colours) and several views (pose, camera, light). What a photo shows is
read off a smoothed, wrong surface such as a reconstruction has, so colours bleed at edges as they
do there. The truth is what a ray along the body's normal leaves last, in the T-pose, where limbs do
not meet.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import SettingError
from crowdgaussian_shared.formats.atomic import atomic_file
from crowdgaussian_shared.formats.npz import read_npz, write_npz
from crowdgaussian_shared.geometry.avatar import BodyParams
from scipy import ndimage, sparse
from scipy.spatial import cKDTree

from ..avatar.materials import HAIR, SKIN, UPPER
from ..body import BodyModel
from ..body.model import pose_body
from ..body.parts import FOOT, HAND, HEAD, Regions, SurfacePoints, find_regions, sample_surface
from ..core.mesh import sample_image, unit, vertex_normals
from ..core.progress import Progress, Report, setting, silent
from ..splat.normals import last_hits, z_buffer
from .dressed import Dressed, colours_of, dress_person
from .garments import neighbour_mean
from .paint import Paint
from .photo import PORTRAIT, Portrait, draw_portrait, take_portrait, turned_to

# Places of the body

PLACES = 14_000  # 11 mm apart on the body; texels of the completion's sheet are 10 to 14 mm wide
_HEAD_DENSER, _HAND_DENSER = 3.0, 1.5  # places per area, by the body's
_INWARDS = 0.03  # metres under the skin from which rays start: a body in tight clothes is pressed
_CLOTH, _SCALP, _FACE, _NECK = 0.14, 0.22, 0.03, 0.09  # metres: farther hits are another part
_HANDS, _FEET = 0.012, 0.04


@dataclass(frozen=True)
class Places:
    """P places of the open body, the same on everybody."""

    points: SurfacePoints
    faces: np.ndarray  # [F, 3] of the body
    at: np.ndarray  # [P, 3] metres, on the body of no particular shape
    tree: cKDTree  # of these
    mirrored: np.ndarray  # [P] the place on the other side, left for right
    opposite: np.ndarray  # [P] the place behind or before it
    mean: sparse.csr_matrix  # [V, V] average of the neighbours

    def on(self, per_vertex: np.ndarray) -> np.ndarray:
        """Values [V, ...] of the vertices at the places.  # [P, ...]"""
        return self.points.on(per_vertex, self.faces)

    def to_vertices(self, values: np.ndarray, count: int) -> np.ndarray:
        """Sums of the places' values [P] at the corners of their faces.  # [V]"""
        corners = self.faces[self.points.face].ravel()
        return np.bincount(corners, (self.points.barycentric * values[:, None]).ravel(), count)


def draw_places(body: BodyModel, count: int) -> SurfacePoints:
    """Places evenly over what of a body can be seen, denser on head and hands.

    Args:
        body: the open body.
        count: about how many.
    """
    posed = pose_body(body, _at_rest(np.zeros(body.num_betas)))
    regions = find_regions(body, posed)
    denser = np.ones(len(posed.rest))
    denser[regions.group == HEAD], denser[regions.group == HAND] = _HEAD_DENSER, _HAND_DENSER
    denser[regions.interior] = 0
    return sample_surface(posed.rest, posed.faces, denser[posed.faces].min(1), count, seed=5)


def _at_rest(betas: np.ndarray) -> BodyParams:
    zero = np.zeros((55, 3), np.float32), np.zeros(3, np.float32)
    return BodyParams(betas.astype(np.float32), *zero, 1.0)


def know_places(body: BodyModel, points: SurfacePoints) -> Places:
    """What is known of places for everybody."""
    rest, faces = np.asarray(body.template, np.float64), np.asarray(body.faces, np.int64)
    at, out = points.on(rest, faces), unit(points.on(vertex_normals(rest, faces), faces))
    parts = np.asarray(body.parts)[faces[points.face, 0]]
    middle = np.asarray(body.joint_template, np.float64)[parts, 2]
    tree = cKDTree(np.concatenate([at, _INWARDS * out], 1))
    aside, behind = at * (-1, 1, 1), np.stack([at[:, 0], at[:, 1], 2 * middle - at[:, 2]], 1)
    across, back = out * (-1, 1, 1), out * (1, 1, -1)
    mirrored, opposite = (
        tree.query(np.concatenate([place, _INWARDS * normal], 1))[1]
        for place, normal in ((aside, across), (behind, back))
    )
    return Places(
        points, faces, at, cKDTree(at), mirrored, opposite, neighbour_mean(faces, len(rest))
    )


# What is really there


@dataclass(frozen=True)
class Truth:
    """What lies over each of P places of somebody."""

    face: np.ndarray  # [P] of the dressed person, -1: nothing
    bary: np.ndarray  # [P, 3]
    offset: np.ndarray  # [P] metres along the body's normal, 0 where nothing
    material: np.ndarray  # [P] of avatar.materials


def find_truth(person: Dressed, places: Places, regions: Regions) -> Truth:
    """The last thing that rays along the normals of the body leave, at rest."""
    rest = person.posed.rest
    farthest = np.where(regions.group == HAND, _HANDS, _CLOTH)
    farthest = np.where(regions.group == FOOT, _FEET, farthest)
    head = _FACE + (_SCALP - _FACE) * regions.scalp
    farthest = np.where(regions.group == HEAD, np.where(regions.neck, _NECK, head), farthest)
    normals = unit(places.on(vertex_normals(rest, places.faces)))
    rays = places.on(rest), normals, places.on(farthest)
    mesh = person.vertices, person.faces, person.thin
    face, offset, bary = last_hits(*mesh, rays, nearest=-_INWARDS)
    material = person.materials[person.piece[np.maximum(face, 0)]]
    return Truth(face, bary, np.where(face >= 0, offset, 0), np.where(face >= 0, material, SKIN))


# What a photo shows

_EDGE_PX = 4.0  # places that are projected so near to the outline are supported by it
_ASIDE = 0.4  # cosine to the camera, under which a place is on the outline's rim
_REACH = (15, 60)  # steps in which an outline's word spreads over the surface
_TRUSTED = 0.02  # of a full word, against which the prior of no offset stands
_LIMIT = -0.01, 0.10  # metres of a guessed surface
_WRONG = 0.003  # metres by which it is wrong everywhere
_GRAZING, _FULLY = 0.12, 0.3  # as avatar.visibility has them
_SAME = 0.012  # metres behind the z-buffer that still are its surface
_HEAD_TALL, _MISSED_HAIR = 0.25, 0.5  # metres; share of people


def _supported(photo: Portrait, truth: Truth, places: Places) -> np.ndarray:
    """Places on the rim that make the outline, where it tells how far they are.  # [P] bool"""
    inner = photo.posed.pose_points(photo.posed.rest)
    normals = unit(places.on(vertex_normals(inner, places.faces)))
    points = places.on(inner) + truth.offset[:, None] * normals
    aside = np.abs((normals * unit(photo.camera.eye - points)).sum(1)) < _ASIDE
    column, row, inside = _pixel(photo, points)
    depth = np.pad(photo.mask, 1)  # outside the picture is outside the person
    away = np.asarray(ndimage.distance_transform_edt(depth))[1:-1, 1:-1]
    return aside & inside & photo.mask[row, column] & (away[row, column] < _EDGE_PX)


def _pixel(photo: Portrait, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, row, both cut to the picture, and whether they are in it.  # [N] each"""
    pixels = np.floor(photo.camera.project(points)[0])
    width, height = photo.camera.width, photo.camera.height
    column, row = pixels[:, 0].clip(0, width - 1), pixels[:, 1].clip(0, height - 1)
    inside = (column == pixels[:, 0]) & (row == pixels[:, 1])
    return column.astype(int), row.astype(int), inside


def _guess(
    truth: Truth, supported: np.ndarray, places: Places, rng: np.random.Generator, count: int
) -> np.ndarray:
    """The offset that a reconstruction has: right at the outline, spread smoothly.  # [V] metres"""
    word = supported * 1.0
    offset = places.to_vertices(word * truth.offset.clip(*_LIMIT), count)
    weight = places.to_vertices(word, count)
    for _ in range(int(rng.integers(*_REACH))):
        offset, weight = places.mean @ offset, places.mean @ weight
    offset = offset * rng.uniform(0.7, 1.05) / (weight + _TRUSTED)
    return offset + _WRONG * rng.normal()


def _labels(truth: Truth, seen: np.ndarray, places: Places, rng: np.random.Generator) -> np.ndarray:
    """Materials as a reconstruction tells them.  # [P]

    Borders are off by a centimetre or two where the photo shows them; what it does not show has
    the word of the other side, or of the front or back, where those are seen; hair that hangs down
    behind is often missed.
    """
    waves = rng.normal(0, 12, (3, 3))
    shift = rng.uniform(0, 0.035) * np.sin(places.at @ waves.T + rng.uniform(0, 6.3, 3))
    label = truth.material[places.tree.query(places.at + shift)[1]]
    hidden, head = ~seen, places.at[:, 1] > places.at[:, 1].max() - _HEAD_TALL
    for other in (places.opposite, places.mirrored):
        asked = hidden & seen[other] & ~head
        label = np.where(asked, label[other], label)
    missed = hidden & (label == HAIR) & ~head & (rng.random() < _MISSED_HAIR)
    return np.where(missed, UPPER, label)


def _sight(photo: Portrait, guess: np.ndarray, places: Places) -> dict[str, np.ndarray]:
    """What a reconstruction sees of the person on its own surface: points, seen, pixel."""
    rest = photo.posed.rest
    displaced = rest + guess[:, None] * vertex_normals(rest, places.faces)
    surface = photo.posed.pose_points(displaced)
    points = places.on(surface)
    normals = unit(places.on(vertex_normals(surface, places.faces)))
    depth = z_buffer(surface, places.faces, photo.camera)[0]
    nearest = ndimage.grey_dilation(np.where(np.isfinite(depth), depth, -np.inf), size=3)
    pixels, away = photo.camera.project(points)
    column, row, inside = _pixel(photo, points)
    pure = ndimage.binary_erosion(photo.mask)
    facing = (normals * unit(photo.camera.eye - points)).sum(1)
    seen = inside & pure[row, column] & (away < nearest[row, column] + _SAME)
    return {"seen": seen * ((facing - _GRAZING) / _FULLY).clip(0, 1), "pixels": pixels}


def _view(
    person: Dressed,
    truth: Truth,
    places: Places,
    looks: list[tuple[Paint, ...]],
    body: BodyModel,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """One photo of a person in several looks, see make_lesson."""
    photo = take_portrait(person, body, rng)
    supported = _supported(photo, truth, places)
    guess = _guess(truth, supported, places, rng, len(person.posed.rest))
    sight = _sight(photo, guess, places)
    seen, pixels = sight["seen"], sight["pixels"]
    shown = [sample_image(draw_portrait(photo, paints, rng), pixels) for paints in looks]
    corners = person.faces[np.maximum(truth.face, 0)]
    normals = unit(np.einsum("pk,pkc->pc", truth.bary, photo.normals[corners]))
    points = np.einsum("pk,pkc->pc", truth.bary, photo.vertices[corners])
    turned = turned_to(normals, photo.camera.eye - points)
    return {
        "seen": _byte(seen),
        "pixel": _byte(pixels / PORTRAIT),
        "shown": _byte(np.stack(shown)) * (seen > 0)[:, None],
        "light": photo.light.on(normals).astype(np.float16),
        "light_seen": photo.light.on(turned).astype(np.float16),
        "tint": photo.light.tint.astype(np.float16),
        "guess": places.on(guess).astype(np.float16),
        "supported": supported,
        "label": _labels(truth, seen > 0, places, rng).astype(np.uint8),
    }


def _byte(values: np.ndarray) -> np.ndarray:
    return (255 * np.clip(values, 0, 1)).round().astype(np.uint8)


def make_lesson(
    body: BodyModel, folder: Path, places: Places, size: tuple[int, int], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Everything about one dressed person; L looks, K views, P places.

    Args:
        body: the open body.
        folder: MakeHuman's, see dress_person.
        places: of the body.
        size: L and K.
        rng: decides everything.

    Returns:
        See docs/training.md.

    Raises:
        CrowdGaussianError: there is no base mesh.
    """
    person = dress_person(body, folder, rng)
    truth = find_truth(person, places, find_regions(body, person.posed))
    looks = [person.paints(rng) for _ in range(size[0])]
    spots = person.spots(np.maximum(truth.face, 0), truth.bary)
    views = [_view(person, truth, places, looks, body, rng) for _ in range(size[1])]
    return {
        "betas": person.posed.params.betas,
        "valid": truth.face >= 0,
        "offset": truth.offset.astype(np.float16),
        "material": truth.material.astype(np.uint8),
        "albedo": np.stack([_byte(colours_of(spots, each)) for each in looks]),
        **{name: np.stack([view[name] for view in views]) for name in views[0]},
    }


# The data set

FILE = "people_{:05d}.npz"
_PLACES = "places.npz"


@dataclass(frozen=True)
class LessonsConfig:
    """How much to make."""

    geometries: int = setting(2000, "people, each a body in clothes of some shape")
    looks: int = setting(3, "of each: other colours of skin, hair and cloth")
    views: int = setting(3, "of each: another pose, camera and light")
    seed: int = setting(0, "of everything random")

    def __post_init__(self) -> None:
        if min(self.geometries, self.looks, self.views) < 1 or self.seed < 0:
            raise SettingError("Make at least one person in one look and one view.")


def write_lessons(
    out: Path, body: BodyModel, folder: Path, config: LessonsConfig, report: Report = silent
) -> None:
    """Makes the people that are not there yet; each file is whole or not there.

    Args:
        out: folder.
        body: the open body.
        folder: MakeHuman's, see dress_person.
        config: what to make; of a folder's people only the number may change.
        report: told about every person.

    Raises:
        CrowdGaussianError: there is no base mesh, or the folder was made with other settings.
    """
    made = np.array([config.looks, config.views, config.seed])
    path = out / _PLACES
    if not path.is_file():
        points = draw_places(body, PLACES)
        values = {"face": points.face, "bary": points.barycentric.astype(np.float32)}
        write_npz(path, {**values, "spacing": points.spacing, "made": made})
    stored = read_npz(path)
    if not np.array_equal(stored["made"], made):
        raise SettingError(f"{out} was made with other looks, views or seed; choose a new folder.")
    bary = stored["bary"].astype(np.float64)
    places = know_places(body, SurfacePoints(stored["face"], bary, stored["spacing"]))
    for index in range(config.geometries):
        told = f"{index} of {config.geometries}"
        report(Progress("people", index / config.geometries, message=told))
        target = out / FILE.format(index)
        if not target.is_file():
            rng = np.random.default_rng([config.seed, index])
            lesson = make_lesson(body, folder, places, (config.looks, config.views), rng)
            with atomic_file(target) as stream:
                np.savez_compressed(stream, allow_pickle=False, **lesson)
    report(Progress("people", 1.0))
