# SPDX-License-Identifier: Apache-2.0
"""Cameras as torch tensors: from the shared camera, cropped, resized, and around a person."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.camera import NEAR, Camera
from torch import Tensor


@dataclass(frozen=True)
class Cameras:
    """C pinhole cameras of one image size, OpenCV axes (x right, y down, z forward).

    Pixel centres lie at half integers; the principal point may be anywhere.
    """

    Ks: Tensor  # [C, 3, 3] float32, pixels
    viewmats: Tensor  # [C, 4, 4] float32, scene frame -> camera frame
    width: int  # pixels
    height: int  # pixels

    def __len__(self) -> int:
        return len(self.Ks)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> "Cameras":
        """One camera (as C = 1), a slice of them, or those of these numbers."""
        if isinstance(index, int):
            index = slice(index, None if index == -1 else index + 1)
        return replace(self, Ks=self.Ks[index], viewmats=self.viewmats[index])

    @property
    def centers(self) -> Tensor:
        """Positions of the cameras in the scene frame, metres.  # [C, 3]"""
        return torch.linalg.inv(self.viewmats)[:, :3, 3]

    def project(self, points: Tensor) -> Tensor:
        """Scene points in each camera's picture; see ``project``.  # [N, 3] -> [C, N, 2]"""
        return torch.stack([project(points, *pair) for pair in zip(self.Ks, self.viewmats)])

    def to(self, device: str | torch.device) -> "Cameras":
        """The same cameras on another device."""
        return replace(self, Ks=self.Ks.to(device), viewmats=self.viewmats.to(device))

    @classmethod
    def from_cameras(cls, cameras: Camera | Sequence[Camera]) -> "Cameras":
        """One shared camera, or several of the same image size.

        Raises:
            InputError: There is none, or their sizes differ.
        """
        several = [cameras] if isinstance(cameras, Camera) else list(cameras)
        sizes = {(camera.width, camera.height) for camera in several}
        if len(sizes) != 1:
            raise InputError("Cameras rendered together need one common image size.")
        ((width, height),) = sizes
        stack = [
            np.stack([np.asarray(getattr(camera, name), np.float32) for camera in several])
            for name in ("K", "viewmat")
        ]
        return cls(torch.from_numpy(stack[0]), torch.from_numpy(stack[1]), width, height)

    def to_cameras(self) -> list[Camera]:
        """The same cameras as shared numpy cameras."""
        pairs = zip(
            self.Ks.detach().double().cpu().numpy(),
            self.viewmats.detach().double().cpu().numpy(),
            strict=True,
        )
        return [Camera(K, viewmat, self.width, self.height) for K, viewmat in pairs]

    def crop(self, left: int, top: int, width: int, height: int) -> "Cameras":
        """The cameras of a window of the image (pixels, may reach over its edges)."""
        Ks = self.Ks.clone()
        Ks[:, 0, 2] -= left
        Ks[:, 1, 2] -= top
        return replace(self, Ks=Ks, width=width, height=height)

    def resize(self, width: int, height: int) -> "Cameras":
        """The cameras of the same picture at another size in pixels."""
        factors = self.Ks.new_tensor([width / self.width, height / self.height, 1.0])
        return replace(self, Ks=self.Ks * factors[:, None], width=width, height=height)

    def framed(self, points: Tensor, margin: float) -> "Cameras":
        """Square cameras with focal length and centre such that points fill their pictures.

        Args:
            points: All before every camera, scene frame, metres.  # [N, 3]
            margin: Of a picture's side to what it shows.
        """
        local = self.viewmats[:, :3, :3] @ points.T + self.viewmats[:, :3, 3:]  # [C, 3, N]
        slopes = local[:, :2] / local[:, 2:]
        low, high = slopes.min(-1).values, slopes.max(-1).values  # [C, 2]
        focal = self.width / ((high - low).amax(1) * margin)
        Ks = torch.zeros_like(self.Ks)
        Ks[:, 0, 0], Ks[:, 1, 1], Ks[:, 2, 2] = focal, focal, 1
        Ks[:, :2, 2] = self.width / 2 - focal[:, None] * (low + high) / 2
        return replace(self, Ks=Ks)

    @classmethod
    def joined(cls, parts: "Sequence[Cameras]") -> "Cameras":
        """All of several cameras of one image size, in their order."""
        return cls(
            torch.cat([part.Ks for part in parts]),
            torch.cat([part.viewmats for part in parts]),
            parts[0].width,
            parts[0].height,
        )

    @classmethod
    def orbit(
        cls,
        target: Sequence[float] | Tensor,
        radius: float,
        n: int,
        elevation: float = 0.0,
        fov: float = 0.7,
        size: int | tuple[int, int] = 512,
        first: float = 0.0,
    ) -> "Cameras":
        """n cameras evenly around the vertical axis through the target, looking at it.

        The first stands in front of a person of identity orientation (on +z of the target); the
        next ones go round towards +x, the person's left.

        Args:
            target: Point looked at in the scene frame (y up), metres.  # [3]
            radius: Distance from the target, metres.
            n: Number of views.
            elevation: Height angle of the cameras above the horizon, radians.
            fov: Vertical field of view, radians.
            size: Image width and height, or the side of a square one, pixels.
            first: How far round the first one stands, radians.
        """
        azimuths = first + 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
        directions = _directions(azimuths, torch.full_like(azimuths, elevation))
        return _looking_at(target, radius, directions, fov, size)

    @classmethod
    def hemisphere(
        cls,
        target: Sequence[float] | Tensor,
        radius: float,
        n: int,
        elevations: tuple[float, float] = (0.0, math.pi / 2),
        fov: float = 0.7,
        size: int | tuple[int, int] = 512,
    ) -> "Cameras":
        """n cameras spread evenly over the sphere between two elevations, looking at the target.

        A Fibonacci spiral: every camera stands for the same area. Arguments are those of
        ``orbit``; ``elevations`` are the lowest and highest, radians.
        """
        index = torch.arange(n, dtype=torch.float64)
        low, high = math.sin(elevations[0]), math.sin(elevations[1])
        heights = low + (high - low) * (index + 0.5) / n
        azimuths = index * math.pi * (3.0 - math.sqrt(5.0))
        return _looking_at(target, radius, _directions(azimuths, torch.asin(heights)), fov, size)


def project(points: Tensor, K: Tensor, viewmat: Tensor) -> Tensor:
    """Scene points into a picture; the torch twin of Camera.project.  # [..., 3] -> [..., 2]

    Depth is kept above NEAR as there, and has no gradient where it was not.
    """
    seen = _to_camera(points, viewmat)
    depth = seen[..., 2:].clamp_min(NEAR)
    return seen[..., :2] / depth * torch.stack([K[0, 0], K[1, 1]]) + K[:2, 2]


def depths(points: Tensor, viewmat: Tensor) -> Tensor:
    """Depths of scene points, metres, at least NEAR.  # [N, 3] -> [N]"""
    return _to_camera(points, viewmat)[:, 2].clamp_min(NEAR)


def _to_camera(points: Tensor, viewmat: Tensor) -> Tensor:
    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    return points @ rotation.T + translation


def _directions(azimuths: Tensor, elevations: Tensor) -> Tensor:
    """Unit vectors from the target to the cameras, y up, azimuth 0 on +z.  # [n, 3]"""
    flat = torch.cos(elevations)
    return torch.stack(
        [flat * torch.sin(azimuths), torch.sin(elevations), flat * torch.cos(azimuths)], -1
    )


def _looking_at(
    target: Sequence[float] | Tensor,
    radius: float,
    directions: Tensor,
    fov: float,
    size: int | tuple[int, int],
) -> Cameras:
    width, height = (size, size) if isinstance(size, int) else size
    centre = torch.as_tensor(target, dtype=torch.float64).detach().cpu()
    forward = -directions
    azimuth = torch.atan2(directions[:, 0], directions[:, 2])
    right = torch.stack([torch.cos(azimuth), torch.zeros_like(azimuth), -torch.sin(azimuth)], -1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], 1)  # [n, 3, 3]
    viewmats = torch.eye(4, dtype=torch.float64).repeat(len(directions), 1, 1)
    viewmats[:, :3, :3] = rotation
    eye = centre + radius * directions
    viewmats[:, :3, 3] = -(rotation @ eye[:, :, None])[:, :, 0]
    focal = 0.5 * height / math.tan(0.5 * fov)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Cameras(K.repeat(len(directions), 1, 1), viewmats.float(), width, height)
