# SPDX-License-Identifier: Apache-2.0
"""Skirts and long hair: where the mask shows cloth between the legs, or hair below the chin, the
body's surface is drawn over it, bound to both thighs or to head and back.

The vertices stay the body's. What finds the outline, spreads Gaussians and fills colours goes on
as with any other clothes, from a surface that already hangs as cloth and hair do.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, mirror_index
from crowdgaussian_shared.geometry.skinning import blend_transforms, move_points

from ..body.model import PosedBody
from ..body.parts import HEAD, LEG, TORSO, Regions, ramp
from ..core.crop import disc
from ..core.mesh import vertex_normals
from ..splat.normals import render_mesh_depth
from .gaussians import dense_weights, top_four
from .types import PhotoFitConfig
from .visibility import PhotoView, places_in, pure_photo, seen_vertices

# All lengths are metres. Hand-tuned on made-up people; benchmarks/clothed.py measures the whole.
_LEVEL = 0.02  # between the heights that are looked at
_SECTION = 0.035  # half the height of a slice of the body: its vertices lie 3 to 6 cm apart
_STAND_OFF = 0.015  # of trousers from the legs: nearer pixels say nothing of a skirt
_LEAST_SKIRT = 0.08  # below the crotch
_HEM_STEP = 0.04  # between the lengths that are tried
_LEAST_EXPLAINED = 0.003  # square metres in the photo that only a skirt explains
_SPILT = 3.0  # how much a pixel of the skirt beside the mask weighs against one that is explained
_LIFTED = 0.5  # cosine between thigh and trunk
_COVERED = 0.93  # of the legs that the mask covers; less: they stand otherwise
_PANEL = 60.0  # degrees from the front within which a leg's inside becomes the front panel
_OVERLAP = 0.004  # by which the panels of both legs cross in the middle


@dataclass(frozen=True)
class Draped:
    """A body whose surface is drawn over skirt and long hair."""

    posed: PosedBody  # at rest as it hangs; weights that hold it together
    regions: Regions  # hair where hair hangs
    cloth: np.ndarray  # [V] 0..1: skirt
    wall: np.ndarray  # [V] bool: inside the skirt, nobody sees it


def drape(posed: PosedBody, regions: Regions, view: PhotoView, config: PhotoFitConfig) -> Draped:
    """The body under what hangs from it, as far as the mask shows it."""
    nothing = np.zeros(len(posed.rest))
    draped = Draped(posed, regions, nothing, nothing > 0)
    if not config.loose:
        return draped
    hem = find_hem(posed, regions, view)
    if hem is not None:
        draped = _skirt(draped, hem)
    tips = find_hair(posed, regions, view)
    return draped if tips is None else _hair(draped, tips)


# Skirts


@dataclass(frozen=True)
class _Sections:
    """Slices of one leg and half the hips from the top down; the other side mirrors them."""

    height: np.ndarray  # [K]
    middle: np.ndarray  # [K] of the leg, distance from the body's middle
    outside: np.ndarray  # [K] the same of its outer edge
    front: np.ndarray  # [K]
    back: np.ndarray  # [K]

    def at(self, name: str, height: np.ndarray) -> np.ndarray:
        """One of the fields at other heights."""
        return np.interp(height, self.height[::-1], getattr(self, name)[::-1])


def _sections(posed: PosedBody, regions: Regions, top: float, bottom: float) -> _Sections:
    lower = np.isin(regions.group, (LEG, TORSO))
    rest, rows = posed.rest[lower] * np.where(posed.rest[lower, :1] < 0, (-1, 1, 1), 1), []
    for height in np.arange(top, bottom - _LEVEL, -_LEVEL):
        points = rest[np.abs(rest[:, 1] - height) < _SECTION]
        if len(points) > 2:
            (inner, _, back), (outer, _, front) = points.min(0), points.max(0)
            rows.append((height, (inner + outer) / 2, outer, front, back))
    return _Sections(*np.array(rows).T)


def _crotch(posed: PosedBody, regions: Regions) -> float:
    """Height at which the legs part."""
    middle = (np.abs(posed.rest[:, 0]) < 0.01) & np.isin(regions.group, (TORSO, LEG))
    return float(posed.rest[middle, 1].min())


def find_hem(posed: PosedBody, regions: Regions, view: PhotoView) -> float | None:
    """Height at rest of the lower edge of a skirt; None: the mask shows none.

    A skirt has to explain more of the mask than the legs do, between them and beside them, than it
    covers of what is not this person.
    """
    naked, scale = _silhouette(posed, view)
    if scale == 0 or _seated(posed) or not _legs_covered(posed, regions, view, scale):
        return None
    about_legs = cv2.dilate(naked.astype(np.uint8), disc(_STAND_OFF * scale)) > 0
    bare = Draped(posed, regions, np.zeros(len(posed.rest)), regions.neck & False)
    crotch, ankle = _crotch(posed, regions), posed.joints[JOINT_INDEX["left_ankle"], 1]
    beside = view.visible & ~about_legs

    def explained(height: float) -> float:
        tube = _silhouette(_skirt(bare, height).posed, view)[0] & ~naked
        return float((tube & beside).sum() - _SPILT * (tube & view.empty).sum())

    heights = np.arange(crotch - _LEAST_SKIRT, ankle, -_HEM_STEP)
    found = {height: explained(height) for height in heights[1::3]}
    if not found or max(found.values()) <= _LEAST_EXPLAINED * scale**2:
        return None
    best = int(np.flatnonzero(heights == max(found, key=lambda height: found[height]))[0])
    around = heights[max(best - 1, 0) : best + 2]
    return float(max(around, key=lambda height: found.get(height) or explained(height)))


def _seated(posed: PosedBody) -> bool:
    """Whether a thigh is lifted so far that a lap, not a skirt, lies between the legs."""
    down = posed.transforms[0, :3, :3] @ (0, -1, 0)
    thighs = [JOINT_INDEX[f"{side}_hip"] for side in ("left", "right")]
    return bool(min(posed.transforms[k, :3, :3] @ (0, -1, 0) @ down for k in thighs) < _LIFTED)


def _silhouette(posed: PosedBody, view: PhotoView) -> tuple[np.ndarray, float]:
    """Pixels of a body [h, w] bool, and its size in pixels per metre; 0: it is not in view."""
    scene = posed.pose_points(posed.rest).astype(np.float32)
    depth = np.asarray(render_mesh_depth(scene, posed.faces, view.camera)[0])
    shown = np.isfinite(depth)
    return shown, float(view.camera.K[1, 1] / np.median(depth[shown])) if shown.any() else 0.0


def _legs_covered(posed: PosedBody, regions: Regions, view: PhotoView, scale: float) -> bool:
    """Whether the mask covers the legs; else the pose is wrong, and no cloth fills the gap."""
    scene = posed.pose_points(posed.rest).astype(np.float32)
    faces = np.asarray(render_mesh_depth(scene, posed.faces, view.camera)[1])
    legs = (faces >= 0) & (regions.group[posed.faces[np.maximum(faces, 0), 0]] == LEG)
    inner = cv2.erode(legs.astype(np.uint8), disc(_STAND_OFF * scale)) > 0
    known = inner & ~view.hidden
    return not known.any() or float(view.visible[known].mean()) >= _COVERED


def _skirt(draped: Draped, hem: float) -> Draped:
    """Both legs above the hem as one tube that hangs from the hips."""
    posed, regions, rest = draped.posed, draped.regions, draped.posed.rest
    top = posed.joints[JOINT_INDEX["left_hip"], 1] + 0.02
    crotch = _crotch(posed, regions)
    hips = _hanging(_sections(posed, regions, top, hem), crotch)
    height = rest[:, 1]
    zone = np.isin(regions.group, (LEG, TORSO)) & (height < top) & (height > hem)
    much = zone * ramp((top - height) / (top - crotch))
    side = np.where(rest[:, 0] < 0, -1.0, 1.0)
    wanted, wall = _on_tube(rest * np.stack([side, side**2, side**2], 1), hips)
    wanted[:, 0] *= side
    hung = rest + much[:, None] * (wanted - rest)
    own = dense_weights(posed)
    share = 0.5 + 0.5 * np.sin(np.pi / 2 * (hung[:, 0] / hips.at("outside", height)).clip(-1, 1))
    mine = np.where(side > 0, share, 1 - share)[:, None]
    both = mine * own + (1 - mine) * own[:, mirror_index()]
    joints, weights = top_four(own + much[:, None] * (both - own))
    posed = replace(posed, rest=hung, skin_joints=joints, skin_weights=weights)
    return replace(draped, posed=posed, cloth=much, wall=wall & (much > 0.9))


def _hanging(sections: _Sections, crotch: float) -> _Sections:
    """Cloth falls straight from the widest place below the crotch; above it lies on the hips."""
    free = sections.height < crotch + _LEVEL

    def falls(edge: np.ndarray, widest: np.ufunc) -> np.ndarray:
        return np.concatenate([edge[~free], widest.accumulate(edge[free])])

    return replace(
        sections,
        outside=falls(sections.outside, np.maximum),
        front=falls(sections.front, np.maximum),
        back=falls(sections.back, np.minimum),
    )


def _on_tube(points: np.ndarray, hips: _Sections) -> tuple[np.ndarray, np.ndarray]:
    """Where points of the left half [V, 3] go on the tube, and which end inside it.

    A leg's outer half becomes half an ellipse; its inner half the front and the back panel, and
    what faces the other leg a wall between them.
    """
    middle, outside, front, back = (
        hips.at(name, points[:, 1]) for name in ("middle", "outside", "front", "back")
    )
    centre, depth = (front + back) / 2, (front - back) / 2
    across = (points[:, 0] - middle) / (outside - middle)
    along = (points[:, 2] - centre) / depth
    angle = np.degrees(np.arctan2(np.abs(across), along))  # 0 front, 90 side, 180 back
    radians = np.radians(angle)
    outer = np.stack([middle + (outside - middle) * np.sin(radians), points[:, 1]], 1)
    outer = np.column_stack([outer, centre + depth * np.cos(radians)])
    from_panel = np.minimum(angle, 180 - angle)  # 0 at front and back, 90 towards the other leg
    x = np.maximum(middle * (1 - from_panel / _PANEL), 0) - _OVERLAP * (from_panel > _PANEL)
    deep = np.clip((90 - from_panel) / (90 - _PANEL), 0, 1)
    z = centre + depth * deep * np.where(angle < 90, 1, -1)
    inner = np.stack([x, points[:, 1], z], 1)
    inside = across < 0
    return np.where(inside[:, None], inner, outer), inside & (from_panel > _PANEL + 5)


# Long hair

_HAIR_STEP = 0.025  # between the heights that are looked at
_HAIR_LOWEST = 0.55  # below the head's joint that hair is followed
_HAIR_HALF_WIDTH = 0.11  # of hair on shoulders and back
_HAIR_WIDTHS = (0.085, 0.12)  # half, where hair is looked for
_HAIR_THICK = 0.025  # on the back
_HAIR_VOLUME = 0.015  # on the skull
_LIKE, _LIKE_SPREAD = 16.0, 2.5  # Lab units, and median deviations, that still are hair
_BRIGHTNESS = 0.6  # of the lightness in that distance: shade falls below the chin
_LEAST_SCALP = 30  # vertices of the scalp that the photo shows
_NEARER = 0.8  # to hair than to face or chest, in its distance from them
_LEAST_HAIR = 0.25  # of the places of a height that look like hair
_TOLD = 3  # places of a height that the photo shows
_BELOW_CHIN = 0.065  # below the head's joint that long hair reaches at least
_FALLS_ON = 0.06  # behind the shoulders, where the photo does not show how it ends


def find_hair(posed: PosedBody, regions: Regions, view: PhotoView) -> float | None:
    """Height at rest of the tips of hair that is longer than the neck; None: there is none."""
    scene = posed.pose_points(posed.rest)
    seen = seen_vertices(scene, posed.faces, view)
    scalp = (regions.scalp > 0.6) & (seen > 0.3)
    face = (regions.face > 0.6) & (seen > 0.3)
    if scalp.sum() < _LEAST_SCALP:
        return None
    lab = cv2.cvtColor(pure_photo(view).astype(np.float32), cv2.COLOR_RGB2LAB)
    lab = lab * np.array([_BRIGHTNESS, 1, 1], np.float32)
    hair = lab[_pixel_of(scene[scalp], view)]
    colour = np.median(hair, 0)
    distance = np.linalg.norm(lab - colour, axis=-1)
    spread = float(np.median(np.linalg.norm(hair - colour, axis=1)))
    like = distance < max(_LIKE, _LIKE_SPREAD * spread)
    for other in (face, (regions.group == TORSO) & (seen > 0.3)):
        if other.sum() > _LEAST_SCALP:
            its = np.median(lab[_pixel_of(scene[other], view)], 0)
            like &= distance < _NEARER * np.linalg.norm(lab - its, axis=-1)
    return _lowest_hair(posed, regions, scene, view, like)


def _pixel_of(points: np.ndarray, view: PhotoView) -> tuple[np.ndarray, np.ndarray]:
    column, row, _ = places_in(view.camera.project(points)[0], view)
    return row, column


def _lowest_hair(
    posed: PosedBody, regions: Regions, scene: np.ndarray, view: PhotoView, like: np.ndarray
) -> float | None:
    """The last height at which the places where hair would hang look like it [h, w] bool."""
    head = posed.joints[JOINT_INDEX["head"], 1]
    heights = np.arange(head - 0.02, head - _HAIR_LOWEST, -_HAIR_STEP)
    places, joints, weights = _hanging_places(posed, regions, heights)
    depth, _ = render_mesh_depth(scene.astype(np.float32), posed.faces, view.camera)
    affines = blend_transforms(joints, weights, posed.transforms)
    pixels, own = view.camera.project(move_points(affines, places))
    column, row, inside = places_in(pixels, view)
    told = inside & (own < np.asarray(depth)[row, column] + 0.02) & ~view.hidden[row, column]
    hair = (told & like[row, column] & view.visible[row, column]).reshape(len(heights), -1).sum(1)
    total = told.reshape(len(heights), -1).sum(1)
    enough = total >= _TOLD
    bare = enough & (hair < _LEAST_HAIR * total)
    end = int(bare.argmax()) if bare.any() else len(heights)
    shown = np.flatnonzero(enough[:end])
    if not len(shown) or heights[shown[-1]] > head - _BELOW_CHIN:
        return None
    return float(heights[shown[-1]]) - _FALLS_ON


def _hanging_places(
    posed: PosedBody, regions: Regions, heights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where long hair would be, at the sides and on the back, and its weights.

    # [K * 22, 3], [K * 22, 4], [K * 22, 4]
    """
    angles = np.radians(np.tile(np.linspace(-110, 110, 11), len(_HAIR_WIDTHS)))
    back, axis = _back_of(posed, regions, heights), posed.joints[JOINT_INDEX["neck"], 2]
    half = np.repeat(_HAIR_WIDTHS, 11)
    x = np.broadcast_to(half * np.sin(angles), (len(heights), len(angles)))
    z = axis - (axis - back)[:, None] * np.cos(angles)
    y = np.broadcast_to(heights[:, None], x.shape)
    places = np.stack([x, y, z], -1).reshape(-1, 3)
    joints = np.tile([JOINT_INDEX["head"], JOINT_INDEX["spine3"], 0, 0], (len(places), 1))
    share = _on_head(posed, places[:, 1])
    weights = np.stack([share, 1 - share, 0 * share, 0 * share], 1)
    return places, joints, weights


def _on_head(posed: PosedBody, height: np.ndarray) -> np.ndarray:
    """How much hair at a height turns with the head; the rest lies on the back.  # [N] 0..1"""
    head, spine = (posed.joints[JOINT_INDEX[name], 1] for name in ("head", "spine3"))
    return ramp((height - spine) / (head - spine))


def _back_of(posed: PosedBody, regions: Regions, heights: np.ndarray) -> np.ndarray:
    """How far back hair lies at each height: it bridges the nape.  # [K]"""
    near = (np.abs(posed.rest[:, 0]) < 0.08) & np.isin(regions.group, (HEAD, TORSO))
    points = posed.rest[near & ~regions.interior]
    levels = np.arange(points[:, 1].max() - 0.03, heights.min() - 0.06, -_HAIR_STEP)
    slices = [points[np.abs(points[:, 1] - y) < _SECTION, 2] for y in levels]
    levels = levels[[len(part) > 0 for part in slices]]
    back = np.array([part.min() for part in slices if len(part)])
    hull = back.copy()
    for i in range(len(levels)):
        for j in range(i + 2, len(levels)):
            between = np.arange(i + 1, j)
            share = (levels[i] - levels[between]) / (levels[i] - levels[j])
            hull[between] = np.minimum(hull[between], back[i] + share * (back[j] - back[i]))
    return np.interp(heights, levels[::-1], hull[::-1]) - _HAIR_THICK


def _hair(draped: Draped, tips: float) -> Draped:
    """Nape, shoulders and back as hair down to its tips."""
    posed, regions, rest = draped.posed, draped.regions, draped.posed.rest
    head, axis = (posed.joints[JOINT_INDEX[name]] for name in ("head", "neck"))
    near = np.abs(rest[:, 0]) < _HAIR_HALF_WIDTH + 0.02
    zone = near & np.isin(regions.group, (HEAD, TORSO)) & ~regions.interior
    zone &= (rest[:, 1] < head[1] + 0.06) & (rest[:, 1] > tips)
    zone &= regions.face < 0.2
    back = _back_of(posed, regions, np.maximum(rest[:, 1], tips))
    angle = np.degrees(np.arctan2(np.abs(rest[:, 0]), axis[2] - rest[:, 2]))  # 0 at the back
    behind = vertex_normals(rest, posed.faces)[:, 2] < 0.1
    on_neck = regions.group == HEAD
    much = zone * np.where(on_neck, ramp((125 - angle) / 25), ramp((100 - angle) / 20) * behind)
    much = much * ramp((rest[:, 1] - tips) / 0.03 + 0.3)
    radians = np.radians(angle)
    wide = np.where(on_neck, _HAIR_HALF_WIDTH - 0.01, np.abs(rest[:, 0]))
    x = np.sign(rest[:, 0]) * np.maximum(np.abs(rest[:, 0]), wide * np.sin(radians) * on_neck)
    z = np.minimum(rest[:, 2], axis[2] - (axis[2] - back) * np.cos(radians))
    wanted = np.stack([x, rest[:, 1], z], 1)
    hung = rest + much[:, None] * (wanted - rest)
    hung += _HAIR_VOLUME * regions.scalp[:, None] * vertex_normals(rest, posed.faces)
    own = dense_weights(posed)
    loose = np.zeros_like(own)
    loose[:, JOINT_INDEX["head"]] = _on_head(posed, rest[:, 1])
    loose[:, JOINT_INDEX["spine3"]] = 1 - loose[:, JOINT_INDEX["head"]]
    joints, weights = top_four(own + much[:, None] * (loose - own))
    moved = much > 0.3
    regions = replace(
        regions,
        group=np.where(moved, HEAD, regions.group),
        neck=regions.neck & ~moved,
        scalp=np.maximum(regions.scalp, much),
    )
    posed = replace(posed, rest=hung, skin_joints=joints, skin_weights=weights)
    return replace(draped, posed=posed, regions=regions)
