# SPDX-License-Identifier: Apache-2.0
"""The weight-free avatar: Gaussians on the body's surface, fitted to what the photo shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Avatar, BodyMesh, Gaussians
from crowdgaussian_shared.geometry.rotations import matrix_to_quat
from crowdgaussian_shared.geometry.sh import colour_to_sh
from crowdgaussian_shared.geometry.skinning import blend_transforms, move_points
from crowdgaussian_shared.scene.schema import CORRECTED

from ..body.model import BodyModel, PosedBody, pose_body
from ..body.parts import HEAD, Regions, find_regions, sample_surface
from ..core.mesh import unit
from ..core.progress import Progress, Report
from ..people.types import Person
from ..segment.types import CrowdView
from ..splat.normals import render_mesh_depth
from .color_completion import Completion, ObservedColors, bent_head, fill_colours, first_colours
from .color_statistics import (
    LimbPlaces,
    cast_by_occluder,
    color_outliers,
    color_prior,
    limb_places,
)
from .gaussians import SurfaceGaussians, bind, face_density
from .materials import find_materials
from .optimise import Fitted, fit_photo, seen_gaussians
from .pose_refine import refine_pose
from .quality import tidied
from .surface import ClothedSurface, fit_surface
from .types import Outcome, PhotoFitConfig
from .visibility import COMPARED_PX, PhotoView, colours_at, make_view, seen_points, seen_vertices

_SURFACE_DONE, _COLOURS_FROM, _COLOURS_SHARE = 0.15, 0.25, 0.7  # of the progress shown
_WELL_SEEN = 0.5  # 0..1 of how well a Gaussian is seen that tells a garment's colour
_RIM = 0.25  # 0..1 of how well a Gaussian is seen under which its colour is that of an edge
_PAINTS = 0.3  # pixels: a Gaussian that paints less is not missed in the photo's view


@dataclass(frozen=True)
class Reconstruction:
    """An avatar and how much of it the photo showed."""

    avatar: Avatar
    seen: np.ndarray  # [N] float32 0..1 per Gaussian


class PhotoFit:
    """Builds people's avatars from the photo alone; see AvatarBuilder."""

    def __init__(
        self, config: PhotoFitConfig, body: BodyModel, completion: Completion | None = None
    ) -> None:
        """completion: None leaves unseen colours to the rules alone."""
        self.config = config
        self.body = body
        self.completion = completion

    @property
    def body_name(self) -> str:
        """The body model whose shape coefficients the avatars carry."""
        return self.body.name

    def reconstruct(
        self, view: CrowdView, indices: Sequence[int], report: Report
    ) -> Iterator[Outcome]:
        """Yield the avatars one by one; see AvatarBuilder."""

        def build(index: int) -> Avatar:
            return self.reconstruct_with_visibility(view, index, report).avatar

        for index in indices:
            yield Outcome.of(index, partial(build, index))

    def reconstruct_with_visibility(
        self, scene: CrowdView, index: int, report: Report
    ) -> Reconstruction:
        """The avatar, and per Gaussian how well the photo shows it."""

        def tell(fraction: float, message: str) -> None:
            report(Progress("avatars", fraction, index, len(scene), message))

        view = make_view(scene, index, self.config.crop_margin, self.config.max_crop_px)
        if view is None or not view.visible.any():
            raise InputError(
                f"Person {index} has no visible pixel; leave the person out or choose a larger "
                "photo."
            )
        tell(0.0, "outline")
        naked = self._pose(scene.person(index), view, scene.crowd.on_ground[index])
        surface = fit_surface(naked, find_regions(self.body, naked), view, self.config)
        posed, regions = surface.hangs.posed, surface.hangs.regions
        tell(_SURFACE_DONE, "surface")
        cloud = self._cloud(posed, regions, surface, view)
        colours = self._first_colours(cloud, posed, surface, view)
        tell(_COLOURS_FROM, "colours")
        fitted = fit_photo(
            cloud,
            posed,
            colours,
            view,
            self.config,
            lambda done: tell(_COLOURS_FROM + _COLOURS_SHARE * done, "colours"),
        )
        seen = seen_gaussians(cloud, posed, fitted, view)
        full = make_view(scene, index, self.config.crop_margin, COMPARED_PX)
        avatar = self._coloured(cloud, posed, surface, full or view, fitted, seen)
        avatar = replace(avatar, body=_body_mesh(naked, surface))
        tell(1.0, "done")
        return Reconstruction(avatar, seen.astype(np.float32))

    def _coloured(
        self,
        cloud: SurfaceGaussians,
        posed: PosedBody,
        surface: ClothedSurface,
        view: PhotoView,
        fitted: Fitted,
        seen: np.ndarray,
    ) -> Avatar:
        """The avatar with its unseen parts filled and, as far as the photo allows, tidied."""
        observed = ObservedColors(fitted.colours, seen)
        trusted, limbs, wrong = self._trusted(cloud, posed, view, observed)
        materials = find_materials(cloud, posed, trusted.colours, trusted.seen, limbs, view)
        tidy = fill_colours(cloud, trusted, limbs, materials.label, self.config.seed)
        tidy = bent_head(tidy, cloud, wrong, materials.label)
        if self.completion is not None:
            offset = cloud.points.on(surface.away(posed.faces), posed.faces)
            tidy = self.completion.complete(cloud, trusted, materials.label, offset, tidy)
        kept = (fitted.shown > _PAINTS) & ~(wrong & (cloud.group == HEAD))
        plain = np.where(kept[:, None], fitted.colours, tidy)
        avatar = _assemble(cloud, posed, surface, replace(fitted, colours=plain))
        tidy_sh = colour_to_sh(tidy).astype(np.float32)
        steps = (seen < _RIM, wrong, np.ones_like(wrong))  # what looks worst first
        sh = tidied(avatar, tidy_sh, steps, view, self.config.tidy_loss)
        return replace(avatar, gaussians=replace(avatar.gaussians, sh=sh), materials=materials)

    def _pose(self, person: Person, view: PhotoView, on_ground: bool) -> PosedBody:
        """The person's body under the outline, its lowest point as high as it was."""
        given = person.params
        if self.config.pose_steps == 0 or CORRECTED in person.flags:
            return pose_body(self.body, given)
        posed = refine_pose(self.body, given, view, self.config, person.keypoints.confidence)
        if not on_ground:
            return posed
        start = pose_body(self.body, given)
        sunk = start.pose_points(start.rest)[:, 1].min() - posed.pose_points(posed.rest)[:, 1].min()
        lifted = posed.params.transl + np.array([0, sunk, 0], np.float32)
        return pose_body(self.body, replace(posed.params, transl=lifted.astype(np.float32)))

    def _cloud(
        self, posed: PosedBody, regions: Regions, surface: ClothedSurface, view: PhotoView
    ) -> SurfaceGaussians:
        shown = seen_vertices(posed.pose_points(surface.vertices), posed.faces, view)
        density = face_density(shown, posed, regions, self.config)
        density[surface.hangs.wall[posed.faces].all(1)] = 0
        points = sample_surface(
            surface.vertices, posed.faces, density, self.config.gaussians, self.config.seed
        )
        return bind(
            points,
            surface.vertices,
            posed,
            regions,
            np.asarray(self.body.mirror_vertices, np.int64),
        )

    def _first_colours(
        self, cloud: SurfaceGaussians, posed: PosedBody, surface: ClothedSurface, view: PhotoView
    ) -> np.ndarray:
        """What lies under each Gaussian in the photo, and a guess for the rest.  # [N, 3]"""
        matrices = blend_transforms(cloud.skin_joints, cloud.skin_weights, posed.transforms)
        scene = move_points(matrices, cloud.means)
        normals = unit(np.einsum("nij,nj->ni", matrices[:, :, :3], cloud.normals))
        mesh = posed.pose_points(surface.vertices).astype(np.float32)
        depth, _ = render_mesh_depth(mesh, posed.faces, view.camera)
        seen = seen_points(scene, normals, np.asarray(depth), view)
        return first_colours(cloud, ObservedColors(colours_at(scene, view), seen), self.config.seed)

    def _trusted(
        self, cloud: SurfaceGaussians, posed: PosedBody, view: PhotoView, observed: ObservedColors
    ) -> tuple[ObservedColors, LimbPlaces, np.ndarray]:
        """The colours without misplaced ones, who asks whom, and which were misplaced [N] bool."""
        matrices = blend_transforms(cloud.skin_joints, cloud.skin_weights, posed.transforms)
        scene = move_points(matrices, cloud.means)
        toward = unit(np.einsum("nji,nj->ni", matrices[:, :, :3], view.eye - scene))
        wrong = cast_by_occluder(cloud, scene, observed.colours, observed.seen)
        limbs = limb_places(cloud, posed.joints, toward)
        prior = color_prior(cloud, observed.colours, (observed.seen > _WELL_SEEN) & ~wrong, limbs)
        wrong |= color_outliers(cloud, scene, observed.colours, prior)
        trusted = ObservedColors(observed.colours, np.where(wrong, 0.0, observed.seen))
        return trusted, limbs, wrong


def _assemble(
    cloud: SurfaceGaussians, posed: PosedBody, surface: ClothedSurface, fitted: Fitted
) -> Avatar:
    gaussians = Gaussians(
        fitted.means.astype(np.float32),
        matrix_to_quat(cloud.frames).astype(np.float32),
        fitted.scales.astype(np.float32),
        fitted.opacities.astype(np.float32),
        colour_to_sh(fitted.colours).astype(np.float32),
    )
    return Avatar(
        gaussians,
        cloud.skin_joints.astype(np.uint8),
        cloud.skin_weights.astype(np.float32),
        posed.joints.astype(np.float32),
        _body_mesh(posed, surface),
        posed.params.as_float32(),
    )


def _body_mesh(posed: PosedBody, surface: ClothedSurface) -> BodyMesh:
    return BodyMesh(
        surface.body.astype(np.float32),
        posed.faces.astype(np.int32),
        posed.skin_joints.astype(np.uint8),
        posed.skin_weights.astype(np.float32),
    )
