# SPDX-License-Identifier: Apache-2.0
"""A plain numpy rasteriser of Gaussians, one at a time: what renders of splats must look like.

EWA splatting as in 3D Gaussian Splatting (Kerbl et al. 2023): 0.3 square pixels of dilation, alpha
between 1/255 and 0.999, front to back by the depth of the centres, sampled at pixel centres.
"""

import numpy as np
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.rotations import quat_to_matrix
from crowdgaussian_shared.geometry.sh import sh_to_colour


def render(gaussians: Gaussians, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Premultiplied sRGB colour [H, W, 3] and alpha [H, W] on black, degree 0 only."""
    centres, ellipses, depths = _project(gaussians, camera)
    colours = np.maximum(sh_to_colour(gaussians.sh), 0)
    colour = np.zeros((camera.height, camera.width, 3))
    clear = np.ones((camera.height, camera.width))
    for n in np.argsort(depths):
        if depths[n] < 0.01:
            continue
        rows, columns = _window(centres[n], ellipses[n], camera)
        y, x = np.mgrid[rows, columns] + 0.5 - centres[n, ::-1, None, None]
        inverse = np.linalg.inv(ellipses[n])
        power = inverse[0, 0] * x * x + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y * y
        alpha = np.minimum(gaussians.opacities[n] * np.exp(-0.5 * power), 0.999)
        alpha[alpha < 1 / 255] = 0
        colour[rows, columns] += (alpha * clear[rows, columns])[..., None] * colours[n]
        clear[rows, columns] *= 1 - alpha
    return colour, 1 - clear


def _project(gaussians: Gaussians, camera: Camera):
    """Centres [N, 2] and covariances [N, 2, 2] in pixels, depths [N]."""
    turn, shift = camera.viewmat[:3, :3], camera.viewmat[:3, 3]
    points = gaussians.means.astype(np.float64) @ turn.T + shift
    x, y, z = points.T
    fx, fy = camera.K[0, 0], camera.K[1, 1]
    jacobian = np.zeros((len(points), 2, 3))
    jacobian[:, 0, 0], jacobian[:, 0, 2] = fx / z, -fx * x / z**2
    jacobian[:, 1, 1], jacobian[:, 1, 2] = fy / z, -fy * y / z**2
    axes = quat_to_matrix(gaussians.quats.astype(np.float64)) * gaussians.scales[:, None, :]
    seen = jacobian @ turn @ axes
    covariances = seen @ seen.transpose(0, 2, 1) + 0.3 * np.eye(2)
    pixels = np.stack([fx * x / z, fy * y / z], axis=1) + camera.K[:2, 2]
    return pixels, covariances, z


def _window(centre: np.ndarray, ellipse: np.ndarray, camera: Camera) -> tuple[slice, slice]:
    reach = 3.4 * np.sqrt(np.diag(ellipse)) + 1
    low = np.floor(centre - reach).astype(int)
    high = np.ceil(centre + reach).astype(int)
    sizes = (camera.width, camera.height)
    x, y = (slice(max(0, a), max(0, min(b, size))) for a, b, size in zip(low, high, sizes))
    return y, x
