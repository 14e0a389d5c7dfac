# SPDX-License-Identifier: Apache-2.0
"""The refinement stages "small" and "turbo" from their settings."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError, InputError, MissingFileError
from crowdgaussian_shared.geometry.avatar import Avatar
from torch import Tensor

from ..core.crop import Crop, box_of
from ..core.device import choose_device, within_memory
from ..core.progress import Progress, Report
from ..people.types import Crowd
from ..segment.types import CrowdView
from ..splat.cameras import Cameras
from .distil import (
    ClusterViews,
    cluster_views,
    coarse_scene,
    distil,
    find_clusters,
    refined_views,
)
from .trainable import Anchor, Movable, refined_avatars
from .types import (
    TURBO_VIEW,
    RefineConfig,
    RefinedCluster,
    Refiner,
    small_path,
    turbo_files,
    turbo_path,
)

# The refinement stage: the clusters of a crowd, and the steps that each of them takes

log = logging.getLogger(__name__)
_MARGIN = 0.06  # of the cluster's box in the photo
_OOM_MESSAGE = (
    "There is not enough memory to refine these people; lower refine.most_people or "
    "refine.distil.size."
)
_EDGE = 3  # pixels of the crop by which masks are shrunk: their rim is mixed with what is behind


class CrowdRefinement:
    """The refinement stage with any Refiner; pipeline.reconstruct takes its steps."""

    def __init__(self, config: RefineConfig, refiner: Refiner) -> None:
        self.config, self.refiner = config, refiner

    def clusters(
        self,
        view: CrowdView,
        avatars: dict[int, Avatar],
        report: Report,
        only: Iterable[int] | None = None,
    ) -> Iterator["Cluster"]:
        """Yield those who are refined together.

        Args:
            view: the photo, everybody in it, and their masks.
            avatars: by index in the crowd; they decide who is a cluster.
            report: called by the clusters between steps; raises to stop.
            only: those who are refined; None: everybody who has an avatar.
        """
        wanted = set(avatars if only is None else only)
        wrong = {index: _trouble(index, avatars[index], view.crowd) for index in sorted(avatars)}
        for index in sorted(wanted):
            if wrong[index]:
                yield Cluster(self, view, {index: avatars[index]}, lambda done: None, wrong[index])
        indices = [index for index in wrong if not wrong[index]]
        roots = np.array([_root(avatars[index]) for index in indices])
        clusters = [
            tuple(indices[member] for member in members if indices[member] in wanted)
            for members in find_clusters(roots, self.config.reach, self.config.most_people)
        ]
        clusters = [people for people in clusters if people]
        for number, people in enumerate(clusters):

            def tell(done: float, number: int = number, people: tuple = people) -> None:
                who = "1 person" if len(people) == 1 else f"{len(people)} people"
                words = f"group {number + 1} of {len(clusters)}, {who}"
                report(Progress("refine", (number + done) / len(clusters), None, None, words))

            yield Cluster(self, view, {i: avatars[i] for i in people}, tell)


class Cluster:
    """People who are refined together, and the steps of their refinement.

    Args:
        stage: the refiner and its settings.
        view: the photo, everybody in it, and their masks.
        avatars: of these people, by index in the crowd.
        tell: called with the fraction done; raises to stop.
        trouble: why they cannot be refined; empty when nothing is known against it.
    """

    def __init__(
        self,
        stage: CrowdRefinement,
        view: CrowdView,
        avatars: dict[int, Avatar],
        tell: Callable[[float], None],
        trouble: str = "",
    ) -> None:
        self.config, self.refiner = stage.config, stage.refiner
        self.view, self.tell, self.trouble = view, tell, trouble
        self.people, self.avatars = tuple(avatars), list(avatars.values())
        self.anchor: Anchor | None = None  # what the photo shows of them
        self.order = torch.Generator().manual_seed(0)  # of the views, while they teach
        self.result = RefinedCluster(self.people, ())

    @contextmanager
    def fails_alone(self) -> Iterator[None]:
        """Keep an error inside as what became of this cluster; only Cancelled passes through."""
        try:
            with within_memory(_OOM_MESSAGE):
                yield
        except CrowdGaussianError as error:
            self.result = RefinedCluster(self.people, (), str(error))
        except Cancelled:
            raise
        except Exception as error:
            log.exception("people %s could not be refined", self.people)
            words = (
                f"An unexpected {type(error).__name__} ended the refinement of these people; "
                "the log has the details."
            )
            self.result = RefinedCluster(self.people, (), words)

    def coarse_scene(self) -> Movable:
        """Everybody's Gaussians, free to change where the photo does not show them.

        Raises:
            InputError: these people cannot be refined.
        """
        if self.trouble:
            raise InputError(self.trouble)
        self.anchor = photo_anchor(self.view, self.people, self.config.photo_px)
        self.avatars = _of_one_degree(self.avatars)
        return coarse_scene(self.avatars, self.anchor)

    def views_and_normals(self) -> ClusterViews:
        """Cameras all around, and the normals of the bodies in them."""
        distil_config = self.config.distil
        size = distil_config.size or self.refiner.trained_at
        return cluster_views(self.avatars, distil_config.views, size, choose_device())

    def refine(self, scene: Movable, views: ClusterViews, number: int) -> Tensor:
        """What the refiner makes of the scene in these views, in one round.  # [V, H, W, 3]"""
        done = number / self.config.distil.rounds
        return refined_views(scene, views, self.refiner, lambda: self.tell(done))

    def distil(self, scene: Movable, views: ClusterViews, images: Tensor, number: int) -> None:
        """Fit the scene's Gaussians to refined images and to the photo, in one round."""
        rounds = self.config.distil.rounds
        distil(
            scene,
            views,
            images,
            self.anchor,
            self.config.distil,
            self.order,
            lambda done: self.tell((number + done) / rounds),
        )

    def finish(self, scene: Movable) -> None:
        """Take what the scene has learnt as the result."""
        self.result = RefinedCluster(self.people, tuple(refined_avatars(self.avatars, scene)))


def photo_anchor(view: CrowdView, people: tuple[int, ...], max_side: int) -> Anchor | None:
    """The photo's crop around some people, and where it shows them; None where it does not."""
    photo = view.photo
    seen = np.logical_or.reduce([view.mask(index).visible for index in people])
    box = box_of(seen)
    if box is None:
        return None
    margin = _MARGIN * float((box[2:] - box[:2]).max())
    crop = Crop.around(box, margin, (photo.shape[1], photo.shape[0]), max_side)
    inner = cv2.erode(crop.take(seen).astype(np.uint8), np.ones((_EDGE, _EDGE), np.uint8))
    device = choose_device()
    picture = torch.from_numpy(crop.take(photo).astype(np.float32) / 255)[None]
    weight = torch.from_numpy(inner.astype(np.float32))[None]
    camera = Cameras.from_cameras(crop.camera(view.crowd.camera))
    return Anchor(camera.to(device), picture.to(device), weight.to(device))


def _root(avatar: Avatar) -> np.ndarray:
    """The pelvis in the scene.  # [3]"""
    return np.asarray(avatar.rest_joints[0] + avatar.transl, np.float64)


def _trouble(index: int, avatar: Avatar, crowd: Crowd) -> str:
    """Why somebody cannot be refined; empty when nothing is known against it."""
    root = _root(avatar)
    arrays = {**vars(avatar.gaussians), "place": root, "pose": avatar.pose}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            return f"Person {index} has {name} that are not finite; reconstruct that person again."
    if not crowd.camera.viewmat[2, :3] @ root + crowd.camera.viewmat[2, 3] > 0:
        return f"Person {index} stands behind the photo's camera; correct that person's place."
    return ""


def _of_one_degree(avatars: list[Avatar]) -> list[Avatar]:
    """The same avatars with as many colour coefficients each, zeros added."""
    most = max(avatar.gaussians.sh.shape[1] for avatar in avatars)
    grown = []
    for avatar in avatars:
        sh = avatar.gaussians.sh
        missing = np.zeros((len(sh), most - sh.shape[1], 3), np.float32)
        more = replace(avatar.gaussians, sh=np.concatenate([sh, missing], axis=1))
        grown.append(replace(avatar, gaussians=more))
    return grown


def small_refinement(config: RefineConfig, body: object = None) -> "CrowdRefinement":
    """Refinement with the small network.

    Raises:
        CrowdGaussianError: its file is missing, damaged or of another architecture, or a package
            is missing.
    """
    path = small_path(config)
    try:
        from .networks.small_unet import load_small
    except ImportError as error:
        raise _lacking(error) from error
    return CrowdRefinement(config, load_small(path).to(choose_device()))


def turbo_refinement(config: RefineConfig, body: object = None) -> "CrowdRefinement":
    """Refinement with the diffusion network, which is read when the first cluster needs it.

    Raises:
        CrowdGaussianError: one of its files is missing, or a package is.
    """
    path = turbo_path(config)
    turbo_files(config)  # all there
    try:
        import diffusers  # noqa: F401  takes seconds, and gigabytes follow: said before the work

    except ImportError as error:
        raise _lacking(error) from error
    return CrowdRefinement(config, _OnDemand(path))


class _OnDemand:
    """A diffusion refiner that is not in memory before it is asked."""

    trained_at = TURBO_VIEW

    def __init__(self, path: Path) -> None:
        self._path = path
        self._refiner: Refiner | None = None

    def refine(self, images: "Tensor", normals: "Tensor") -> "Tensor":
        """As Refiner.

        Raises:
            CrowdGaussianError: the folder cannot be read.
        """
        if self._refiner is None:
            from .networks.sd_checkpoint import load_turbo

            self._refiner = load_turbo(self._path).to(images.device)
        return self._refiner.refine(images, normals)


def _lacking(error: ImportError) -> MissingFileError:
    return MissingFileError(
        f"The refinement stage needs the package {error.name}; run `pip install "
        "'crowdgaussian[networks]'`, or set stages.refiner to none."
    )
