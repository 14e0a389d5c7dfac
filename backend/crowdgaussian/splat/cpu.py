# SPDX-License-Identifier: Apache-2.0
"""The CPU rasteriser: compiled kernels joined into one torch function with an analytic backward."""

from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.geometry.camera import split_viewmat
from torch import Tensor

from ..core.device import float_array
from .cameras import Cameras
from .kernels import balanced_bounds, even_bounds, run_chunks
from .kernels import blend as blending
from .kernels import project as projecting
from .kernels import sh as shading
from .splats import RasterConfig, Splats

FIXED_CHANNELS = 4  # red, green, blue, depth; features follow


def camera_vector(cameras: Cameras, index: int, config: RasterConfig) -> np.ndarray:
    """One camera in the layout that the kernels read (see kernels/project.py).  # [24] float64"""
    (camera,) = cameras[index].to_cameras()
    K, (rotation, translation) = camera.K, split_viewmat(camera.viewmat)
    centre = -np.linalg.solve(rotation, translation)
    limits = (cameras.width, cameras.height, config.near, config.far, config.eps2d)
    return np.concatenate(
        [[K[0, 0], K[1, 1], K[0, 2], K[1, 2]], rotation.ravel(), translation, centre, limits]
    )


@dataclass
class _Scene:
    """The Gaussians of one call as float32 arrays."""

    means: np.ndarray  # [N, 3]
    cov6: np.ndarray  # [N, 6]
    opacities: np.ndarray  # [N]
    sh: np.ndarray  # [N, K, 3]
    frames: np.ndarray  # [N, 3, 3], or [0, 3, 3] for none
    features: np.ndarray  # [N, F]

    @property
    def shading(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.means, self.sh, self.frames


@dataclass
class _View:
    """What the forward pass of one camera leaves for its backward pass."""

    cam: np.ndarray  # [24]
    geo: np.ndarray  # [N, 7]
    boxes: np.ndarray  # [N, 4]
    order: np.ndarray  # [M]
    slots: np.ndarray  # [M + 1]
    rows: np.ndarray  # [M, HEADER + D]
    tiles: tuple[np.ndarray, np.ndarray]  # entries [L, 2], offsets [tiles + 1]
    across: int  # tiles in a row of the image


def _cov6(quats: Tensor | None, scales: Tensor | None, covars: Tensor | None) -> np.ndarray:
    if covars is not None:
        full = float_array(covars)
        symmetric = 0.5 * (full + full.transpose(0, 2, 1))
        return np.ascontiguousarray(symmetric[:, (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)])
    assert quats is not None and scales is not None  # Splats.check has seen to it
    out = np.empty((len(quats), 6), np.float32)
    run_chunks(
        projecting.covariances, even_bounds(len(out)), float_array(quats), float_array(scales), out
    )
    return out


def _prepare(scene: _Scene, cam: np.ndarray) -> _View:
    """Project, shade, sort and list the Gaussians for one camera."""
    count, width, height = len(scene.means), int(cam[19]), int(cam[20])
    across, down = -(-width // blending.TILE_WIDTH), -(-height // blending.TILE_HEIGHT)
    geo, boxes = np.empty((count, 7), np.float32), np.empty((count, 4), np.int32)
    colors, bounds = np.empty((count, 3), np.float32), even_bounds(count)
    run_chunks(
        projecting.project, bounds, scene.means, scene.cov6, scene.opacities, cam, geo, boxes
    )
    run_chunks(shading.colors, bounds, scene.shading, cam, boxes, colors)
    order = blending.depth_order(geo, boxes)
    slots, offsets = blending.count_tiles(order, boxes, across, down)
    entries = np.empty((offsets[-1], 2), np.int32)
    blending.fill_tiles(order, boxes, across, offsets, entries)
    channels = FIXED_CHANNELS + scene.features.shape[1]
    rows = np.empty((len(order), blending.HEADER + channels), np.float32)
    run_chunks(
        blending.gather, even_bounds(len(order)), order, geo, boxes, (colors, scene.features), rows
    )
    return _View(cam, geo, boxes, order, slots, rows, (entries, offsets), across)


@dataclass
class _Gradients:
    """Gradients of a call, added up over its cameras."""

    means: np.ndarray
    cov: np.ndarray
    opacities: np.ndarray
    sh: np.ndarray
    frames: np.ndarray
    features: np.ndarray

    @classmethod
    def zeros(cls, scene: _Scene) -> "_Gradients":
        return cls(*(np.zeros_like(value) for value in vars(scene).values()))


def _view_backward(
    scene: _Scene, view: _View, forward: tuple, v_outputs: tuple, total: _Gradients
) -> None:
    """Add one camera's gradients to ``total``; arguments as in kernels/blend.py."""
    grads = _blend_backward(scene, view, forward, v_outputs)
    count = len(scene.means)
    v_geo, v_colors = np.empty((count, 7), np.float32), np.empty((count, 3), np.float32)
    run_chunks(
        blending.scatter,
        even_bounds(len(view.order)),
        view.order,
        view.slots,
        grads,
        (v_geo, v_colors, total.features),
    )
    bounds = even_bounds(count)
    run_chunks(
        shading.colors_backward,
        bounds,
        scene.shading,
        view.cam,
        view.boxes,
        v_colors,
        (total.means, total.sh, total.frames),
    )
    run_chunks(
        projecting.project_backward,
        bounds,
        (scene.means, scene.cov6),
        view.cam,
        (view.geo, view.boxes),
        v_geo,
        (total.means, total.cov, total.opacities),
    )


def _blend_backward(scene: _Scene, view: _View, forward: tuple, v_outputs: tuple) -> np.ndarray:
    """Gradients of every entry of every tile's list.  # [S, 6 + channels]"""
    channels = FIXED_CHANNELS + scene.features.shape[1]
    grads = np.zeros((view.slots[-1], 6 + channels), np.float32)
    bounds = balanced_bounds(view.tiles[1])
    given = (view.rows, view.tiles, view.across, forward, v_outputs)
    run_chunks(blending.blend_backward, bounds, *given, grads)
    return grads


def _shape_gradients(
    total: _Gradients, quats: Tensor | None, scales: Tensor | None, covars: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The covariance gradient as gradients of what the caller gave."""
    if covars is not None:
        full = total.cov[:, (0, 1, 2, 1, 3, 4, 2, 4, 5)].reshape(-1, 3, 3)
        return None, None, torch.from_numpy(full)
    assert quats is not None and scales is not None  # Splats.check has seen to it
    v_quats, v_scales = np.empty((len(quats), 4), np.float32), np.empty_like(total.means)
    run_chunks(
        projecting.covariances_backward,
        even_bounds(len(v_quats)),
        float_array(quats),
        float_array(scales),
        total.cov,
        v_quats,
        v_scales,
    )
    return torch.from_numpy(v_quats), torch.from_numpy(v_scales), None


def _joined(parts: tuple[Tensor | None, ...], shape: torch.Size) -> np.ndarray:
    """Gradients of colour, depth and features as one, 0 where not used.  # [C, D, H, W]"""
    joined = torch.zeros(shape)
    for channels, part in zip(_split(joined), parts, strict=True):
        if part is not None:
            channels.copy_(part)
    return joined.numpy()


def _split(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Colour [C, 3, H, W], summed depth [C, H, W] and features [C, F, H, W] as views."""
    return images[:, :3], images[:, 3], images[:, FIXED_CHANNELS:]


class _RasterizeCPU(torch.autograd.Function):
    """Colour [C, 3, H, W], summed depth [C, H, W], features [C, F, H, W] and alpha [C, H, W]."""

    @staticmethod
    def forward(ctx, fixed, means, opacities, sh, quats, scales, covars, *optional):  # noqa: ANN001, ANN002, ANN205, E501
        cams, background = fixed
        frames, features = optional
        empty = np.zeros((0, 3, 3), np.float32)
        scene = _Scene(
            float_array(means),
            _cov6(quats, scales, covars),
            float_array(opacities),
            float_array(sh),
            empty if frames is None else float_array(frames),
            float_array(features),
        )
        size = (int(cams[0][20]), int(cams[0][19]))
        images = torch.empty(len(cams), FIXED_CHANNELS + features.shape[1], *size)
        alphas = torch.empty(len(cams), *size)
        ctx.scene, ctx.views, ctx.shape = scene, [], (quats, scales, covars)
        for cam, image, alpha, behind in zip(cams, images, alphas, background, strict=True):
            view = _prepare(scene, cam)
            run_chunks(
                blending.blend,
                balanced_bounds(view.tiles[1]),
                view.rows,
                view.tiles,
                view.across,
                behind,
                (image.numpy(), alpha.numpy()),
            )
            ctx.views.append(view)
        ctx.set_materialize_grads(False)
        ctx.finished = images.numpy(), alphas.numpy()
        return *_split(images), alphas[:]  # views: torch refuses to change them in place

    @staticmethod
    def backward(ctx, *v_parts):  # noqa: ANN001, ANN002, ANN205
        images, alphas = ctx.finished
        total = _Gradients.zeros(ctx.scene)
        v_images = _joined(v_parts[:3], images.shape)
        v_alphas = np.zeros_like(alphas) if v_parts[3] is None else float_array(v_parts[3])
        for k, view in enumerate(ctx.views):
            _view_backward(
                ctx.scene, view, (images[k], alphas[k]), (v_images[k], v_alphas[k]), total
            )
        v_quats, v_scales, v_covars = _shape_gradients(total, *ctx.shape)
        v_frames = torch.from_numpy(total.frames) if len(ctx.scene.frames) else None
        return (
            None,
            torch.from_numpy(total.means),
            torch.from_numpy(total.opacities),
            torch.from_numpy(total.sh),
            v_quats,
            v_scales,
            v_covars,
            v_frames,
            torch.from_numpy(total.features),
        )


def rasterize_cpu(
    splats: Splats,
    cameras: Cameras,
    background: Tensor | None,
    features: Tensor | None,
    config: RasterConfig,
) -> tuple[Tensor, ...]:
    """Colour [C, 3, H, W], summed depth [C, H, W], features [C, F, H, W] and alpha [C, H, W].

    Arguments are those of ``rasterize``; every tensor is on the CPU. Results are float32.
    """
    cams = [camera_vector(cameras, k, config) for k in range(len(cameras))]
    behind = np.zeros((len(cams), 3), np.float32)
    if background is not None:
        behind[:] = float_array(background)
    if features is None:
        features = splats.means.new_zeros(len(splats), 0)
    shape = (
        (None, None, splats.covars)
        if splats.covars is not None
        else (splats.quats, splats.scales, None)
    )
    return _RasterizeCPU.apply(
        (cams, behind),
        splats.means,
        splats.opacities,
        splats.sh,
        *shape,
        splats.sh_frames,
        features,
    )
