# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels: covariances and their EWA projection to the image, forward and backward.

The mathematics is that of gsplat 1.5.3 (nerfstudio-project/gsplat, ProjectionEWA3DGSFused.cu) and
of Zwicker et al., "EWA splatting" (2002). Every kernel works on Gaussians start..stop and touches
no others, so that several Python threads run it at once (nogil). numba's cache looks only at the
file of the kernel: the helpers a kernel uses are kept beside it.

``cam`` is the float64 vector made by ``cpu.camera_vector``: fx fy cx cy, rotation (9, row major),
translation (3), camera centre (3), width height near far eps2d.
``cov6`` holds xx xy xz yy yz zz. A gradient in ``cov6`` form is that of the full 3x3 matrix.
"""

import math
from typing import Any

import numpy as np
from numba import njit

FAST = {"contract", "reassoc", "arcp", "nsz"}  # not nnan: NaN input must stay detectable
OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": FAST, "error_model": "numpy"}
ALPHA_MIN = 1.0 / 255.0
MAX_EXTENT = 3.33  # standard deviations


@njit(**OPTIONS)
def _rotation(w, x, y, z):
    return (
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    )


@njit(**OPTIONS)
def _unit_quat(quats, n):
    w, x, y, z = (
        np.float64(quats[n, 0]),
        np.float64(quats[n, 1]),
        np.float64(quats[n, 2]),
        np.float64(quats[n, 3]),
    )
    inv = 1.0 / math.sqrt(w * w + x * x + y * y + z * z)
    return w * inv, x * inv, y * inv, z * inv, inv


@njit(**OPTIONS)
def covariances(start, stop, quats, scales, cov6):
    """Write R S S R^T of the unit quaternions and scales into cov6 [N, 6]."""
    for n in range(start, stop):
        w, x, y, z, _ = _unit_quat(quats, n)
        a, b, c, d, e, f, g, h, i = _rotation(w, x, y, z)
        sx, sy, sz = (
            np.float64(scales[n, 0]) ** 2,
            np.float64(scales[n, 1]) ** 2,
            np.float64(scales[n, 2]) ** 2,
        )
        cov6[n, 0] = a * a * sx + b * b * sy + c * c * sz
        cov6[n, 1] = a * d * sx + b * e * sy + c * f * sz
        cov6[n, 2] = a * g * sx + b * h * sy + c * i * sz
        cov6[n, 3] = d * d * sx + e * e * sy + f * f * sz
        cov6[n, 4] = d * g * sx + e * h * sy + f * i * sz
        cov6[n, 5] = g * g * sx + h * h * sy + i * i * sz


@njit(**OPTIONS)
def _column_vjp(v_cov, n, column, s):
    """Gradient of one column of the rotation and of its scale: d(s^2 r r^T) -> (v_r, v_s)."""
    x, y, z = column
    gx = v_cov[n, 0] * x + v_cov[n, 1] * y + v_cov[n, 2] * z
    gy = v_cov[n, 1] * x + v_cov[n, 3] * y + v_cov[n, 4] * z
    gz = v_cov[n, 2] * x + v_cov[n, 4] * y + v_cov[n, 5] * z
    k = 2.0 * s * s
    return k * gx, k * gy, k * gz, 2.0 * s * (gx * x + gy * y + gz * z)


@njit(**OPTIONS)
def covariances_backward(start, stop, quats, scales, v_cov, v_quats, v_scales):
    """Gradients of ``covariances`` for v_cov [N, 6] into v_quats [N, 4] and v_scales [N, 3]."""
    for n in range(start, stop):
        w, x, y, z, inv = _unit_quat(quats, n)
        a, b, c, d, e, f, g, h, i = _rotation(w, x, y, z)
        va, vd, vg, s0 = _column_vjp(v_cov, n, (a, d, g), np.float64(scales[n, 0]))
        vb, ve, vh, s1 = _column_vjp(v_cov, n, (b, e, h), np.float64(scales[n, 1]))
        vc, vf, vi, s2 = _column_vjp(v_cov, n, (c, f, i), np.float64(scales[n, 2]))
        v_scales[n, 0], v_scales[n, 1], v_scales[n, 2] = s0, s1, s2
        qw = 2 * (x * (vh - vf) + y * (vc - vg) + z * (vd - vb))
        qx = 2 * (-2 * x * (ve + vi) + y * (vd + vb) + z * (vg + vc) + w * (vh - vf))
        qy = 2 * (x * (vd + vb) - 2 * y * (va + vi) + z * (vh + vf) + w * (vc - vg))
        qz = 2 * (x * (vg + vc) + y * (vh + vf) - 2 * z * (va + ve) + w * (vd - vb))
        along = qw * w + qx * x + qy * y + qz * z
        v_quats[n, 0] = (qw - along * w) * inv
        v_quats[n, 1] = (qx - along * x) * inv
        v_quats[n, 2] = (qy - along * y) * inv
        v_quats[n, 3] = (qz - along * z) * inv


@njit(**OPTIONS)
def _to_camera(means, n, cam):
    p, q, r = np.float64(means[n, 0]), np.float64(means[n, 1]), np.float64(means[n, 2])
    return (
        cam[4] * p + cam[5] * q + cam[6] * r + cam[13],
        cam[7] * p + cam[8] * q + cam[9] * r + cam[14],
        cam[10] * p + cam[11] * q + cam[12] * r + cam[15],
    )


@njit(**OPTIONS)
def _clamped(u, focal, centre, size):
    """Clamp a tangent to 0.3 half fields of view beyond the image; 1 where it was inside."""
    margin = 0.15 * size / focal
    low, high = -centre / focal - margin, (size - centre) / focal + margin
    if u > high:
        return high, 0.0
    if u < low:
        return low, 0.0
    return u, 1.0


@njit(**OPTIONS)
def _jacobian(x, y, z, cam):
    """J W of the perspective at the (clamped) centre: two rows of three, and J's entries."""
    u, inside_x = _clamped(x / z, cam[0], cam[2], cam[19])
    v, inside_y = _clamped(y / z, cam[1], cam[3], cam[20])
    j0, j2, k1, k2 = cam[0] / z, -cam[0] * u / z, cam[1] / z, -cam[1] * v / z
    row0 = (j0 * cam[4] + j2 * cam[10], j0 * cam[5] + j2 * cam[11], j0 * cam[6] + j2 * cam[12])
    row1 = (k1 * cam[7] + k2 * cam[10], k1 * cam[8] + k2 * cam[11], k1 * cam[9] + k2 * cam[12])
    return row0, row1, (u, v, inside_x, inside_y)


@njit(**OPTIONS)
def _times_cov(cov6, n, row):
    a, b, c = row
    return (
        cov6[n, 0] * a + cov6[n, 1] * b + cov6[n, 2] * c,
        cov6[n, 1] * a + cov6[n, 3] * b + cov6[n, 4] * c,
        cov6[n, 2] * a + cov6[n, 4] * b + cov6[n, 5] * c,
    )


@njit(**OPTIONS)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(**OPTIONS)
def _pixel_range(centre, radius, size):
    """First pixel and one past the last whose centres lie within ``radius`` of ``centre``."""
    low = max(centre - radius - 0.501, -1.0)
    high = min(centre + radius - 0.499, size + 1.0)
    return max(0, math.ceil(low)), min(int(size), math.floor(high) + 1)


@njit(**OPTIONS)
def project(start, stop, means, cov6, opacities, cam, geo, boxes):
    """Project Gaussians: geo [N, 7] = mean x y, conic a b c, opacity, z; boxes [N, 4] in pixels.

    A box (x0, x1, y0, y1) holds every pixel centre where alpha can reach 1/255; it is empty for a
    Gaussian that is not drawn.
    """
    for n in range(start, stop):
        boxes[n, 0], boxes[n, 1] = 0, 0
        x, y, z = _to_camera(means, n, cam)
        opacity = np.float64(opacities[n])
        if not (z >= cam[21] and z <= cam[22] and opacity >= ALPHA_MIN):
            continue
        row0, row1, _ = _jacobian(x, y, z, cam)
        part0, part1 = _times_cov(cov6, n, row0), _times_cov(cov6, n, row1)
        xx, xy, yy = _dot(part0, row0) + cam[23], _dot(part0, row1), _dot(part1, row1) + cam[23]
        det = xx * yy - xy * xy
        mx, my = cam[0] * x / z + cam[2], cam[1] * y / z + cam[3]
        if not (det > 0.0 and abs(mx) < 1e9 and abs(my) < 1e9):
            continue
        extent = min(MAX_EXTENT, math.sqrt(2.0 * math.log(opacity / ALPHA_MIN)))
        x0, x1 = _pixel_range(mx, extent * math.sqrt(xx), cam[19])
        y0, y1 = _pixel_range(my, extent * math.sqrt(yy), cam[20])
        if x1 <= x0 or y1 <= y0:
            continue
        boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3] = x0, x1, y0, y1
        geo[n, 0], geo[n, 1] = mx, my
        geo[n, 2], geo[n, 3], geo[n, 4] = yy / det, -xy / det, xx / det
        geo[n, 5], geo[n, 6] = opacity, z


@njit(**OPTIONS)
def _conic_vjp(geo, n, v_geo):
    """Gradient of the dilated 2D covariance: -Q V Q with V the conic's symmetric gradient."""
    a, b, c = np.float64(geo[n, 2]), np.float64(geo[n, 3]), np.float64(geo[n, 4])
    va, vb, vc = v_geo[n, 2], 0.5 * v_geo[n, 3], v_geo[n, 4]
    p, q = a * va + b * vb, a * vb + b * vc
    r, s = b * va + c * vb, b * vb + c * vc
    return -(p * a + q * b), -(p * b + q * c), -(r * b + s * c)


@njit(**OPTIONS)
def _mean_vjp(point, cam, v_mean2d, v_rows, clamp):
    """Gradient of the camera-space centre from the 2D mean and from J's entries."""
    (x, y, z), (u, v, inside_x, inside_y) = point, clamp
    gx, gy = v_mean2d[0] * cam[0] / z, v_mean2d[1] * cam[1] / z
    gz = -(gx * x + gy * y) / z
    (vj0, vj2), (vk1, vk2) = v_rows
    fx, fy = cam[0] / (z * z), cam[1] / (z * z)
    gz += -fx * vj0 - fy * vk1 + fx * u * vj2 + fy * v * vk2
    gx -= inside_x * fx * vj2
    gy -= inside_y * fy * vk2
    gz += inside_x * fx * u * vj2 + inside_y * fy * v * vk2
    return gx, gy, gz


@njit(**OPTIONS)
def _cov_vjp(v_cov, n, rows, v2d):
    """Add A^T V A to v_cov, for the two rows of A = J W."""
    (a, b, c), (d, e, f) = rows
    vxx, vxy, vyy = v2d
    v_cov[n, 0] += vxx * a * a + 2 * vxy * a * d + vyy * d * d
    v_cov[n, 1] += vxx * a * b + vxy * (a * e + d * b) + vyy * d * e
    v_cov[n, 2] += vxx * a * c + vxy * (a * f + d * c) + vyy * d * f
    v_cov[n, 3] += vxx * b * b + 2 * vxy * b * e + vyy * e * e
    v_cov[n, 4] += vxx * b * c + vxy * (b * f + e * c) + vyy * e * f
    v_cov[n, 5] += vxx * c * c + 2 * vxy * c * f + vyy * f * f


@njit(**OPTIONS)
def _project_one_backward(n, inputs, cam, geo, v_geo, v_means, v_cov):
    means, cov6 = inputs
    x, y, z = _to_camera(means, n, cam)
    row0, row1, clamp = _jacobian(x, y, z, cam)
    part0, part1 = _times_cov(cov6, n, row0), _times_cov(cov6, n, row1)
    vxx, vxy, vyy = _conic_vjp(geo, n, v_geo)
    _cov_vjp(v_cov, n, (row0, row1), (vxx, vxy, vyy))
    va = (
        2 * (vxx * part0[0] + vxy * part1[0]),
        2 * (vxx * part0[1] + vxy * part1[1]),
        2 * (vxx * part0[2] + vxy * part1[2]),
    )
    vb = (
        2 * (vxy * part0[0] + vyy * part1[0]),
        2 * (vxy * part0[1] + vyy * part1[1]),
        2 * (vxy * part0[2] + vyy * part1[2]),
    )
    w0, w1, w2 = (cam[4], cam[5], cam[6]), (cam[7], cam[8], cam[9]), (cam[10], cam[11], cam[12])
    v_rows = ((_dot(va, w0), _dot(va, w2)), (_dot(vb, w1), _dot(vb, w2)))
    gx, gy, gz = _mean_vjp((x, y, z), cam, (v_geo[n, 0], v_geo[n, 1]), v_rows, clamp)
    gz += v_geo[n, 6]
    for k in range(3):
        v_means[n, k] += gx * cam[4 + k] + gy * cam[7 + k] + gz * cam[10 + k]


@njit(**OPTIONS)
def project_backward(start, stop, inputs, cam, forward, v_geo, outputs):
    """Gradients of ``project``: v_geo [N, 7] into outputs = (v_means, v_cov, v_opacities), added.

    ``inputs`` is (means, cov6), ``forward`` is (geo, boxes) as ``project`` left them.
    """
    geo, boxes = forward
    v_means, v_cov, v_opacities = outputs
    for n in range(start, stop):
        if boxes[n, 1] > boxes[n, 0]:
            _project_one_backward(n, inputs, cam, geo, v_geo, v_means, v_cov)
            v_opacities[n] += v_geo[n, 5]
