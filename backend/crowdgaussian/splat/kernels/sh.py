# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels: colours from spherical harmonics of degree 0 to 3, forward and backward.

Real basis and signs of 3DGS (Kerbl et al. 2023); the polynomials are those of Sloan, "Efficient
spherical harmonic evaluation" (JCGT 2013), and their derivatives.
"""

import math
from typing import Any

import numpy as np
from numba import njit

OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "arcp", "nsz"},
}
C0 = 0.28209479177387814
C1 = 0.4886025119029199
C20, C21, C22 = 1.0925484305920792, 0.31539156525252005, 0.5462742152960396
C30, C31, C32 = 0.5900435899266435, 2.890611442640554, 0.4570457994644658
C33, C34 = 0.3731763325901154, 1.445305721320277


@njit(**OPTIONS)
def _basis(x, y, z, count, out):
    out[0] = C0
    if count > 1:
        out[1], out[2], out[3] = -C1 * y, C1 * z, -C1 * x
    if count > 4:
        out[4], out[5], out[7] = C20 * x * y, -C20 * y * z, -C20 * x * z
        out[6] = C21 * (2 * z * z - x * x - y * y)
        out[8] = C22 * (x * x - y * y)
    if count > 9:
        out[9] = -C30 * y * (3 * x * x - y * y)
        out[10] = C31 * x * y * z
        out[11] = -C32 * y * (4 * z * z - x * x - y * y)
        out[12] = C33 * z * (2 * z * z - 3 * x * x - 3 * y * y)
        out[13] = -C32 * x * (4 * z * z - x * x - y * y)
        out[14] = C34 * z * (x * x - y * y)
        out[15] = -C30 * x * (x * x - 3 * y * y)


@njit(**OPTIONS)
def _put(out, k, a, b, c):
    out[k, 0], out[k, 1], out[k, 2] = a, b, c


@njit(**OPTIONS)
def _basis_gradient(x, y, z, count, out):
    """Derivatives [count, 3] of ``_basis`` with respect to x, y, z."""
    _put(out, 0, 0.0, 0.0, 0.0)
    if count > 1:
        _put(out, 1, 0.0, -C1, 0.0)
        _put(out, 2, 0.0, 0.0, C1)
        _put(out, 3, -C1, 0.0, 0.0)
    if count > 4:
        _put(out, 4, C20 * y, C20 * x, 0.0)
        _put(out, 5, 0.0, -C20 * z, -C20 * y)
        _put(out, 6, -2 * C21 * x, -2 * C21 * y, 4 * C21 * z)
        _put(out, 7, -C20 * z, 0.0, -C20 * x)
        _put(out, 8, 2 * C22 * x, -2 * C22 * y, 0.0)
    if count > 9:
        xx, yy, zz = x * x, y * y, z * z
        _put(out, 9, -6 * C30 * x * y, -3 * C30 * (xx - yy), 0.0)
        _put(out, 10, C31 * y * z, C31 * x * z, C31 * x * y)
        _put(out, 11, 2 * C32 * x * y, -C32 * (4 * zz - xx - 3 * yy), -8 * C32 * y * z)
        _put(out, 12, -6 * C33 * x * z, -6 * C33 * y * z, 3 * C33 * (2 * zz - xx - yy))
        _put(out, 13, -C32 * (4 * zz - 3 * xx - yy), 2 * C32 * x * y, -8 * C32 * x * z)
        _put(out, 14, 2 * C34 * x * z, -2 * C34 * y * z, C34 * (xx - yy))
        _put(out, 15, -3 * C30 * (xx - yy), 6 * C30 * x * y, 0.0)


@njit(**OPTIONS)
def _view(means, n, cam):
    """Unit direction from the camera to Gaussian n, and one over its distance."""
    x, y, z = (
        np.float64(means[n, 0]) - cam[16],
        np.float64(means[n, 1]) - cam[17],
        np.float64(means[n, 2]) - cam[18],
    )
    inv = 1.0 / max(math.sqrt(x * x + y * y + z * z), 1e-12)
    return x * inv, y * inv, z * inv, inv


@njit(**OPTIONS)
def _to_frame(frames, n, direction):
    if len(frames) == 0:
        return direction
    x, y, z = direction
    return (
        frames[n, 0, 0] * x + frames[n, 1, 0] * y + frames[n, 2, 0] * z,
        frames[n, 0, 1] * x + frames[n, 1, 1] * y + frames[n, 2, 1] * z,
        frames[n, 0, 2] * x + frames[n, 1, 2] * y + frames[n, 2, 2] * z,
    )


@njit(**OPTIONS)
def _color(sh, n, basis, channel):
    total = 0.5
    for k in range(sh.shape[1]):
        total += basis[k] * sh[n, k, channel]
    return total


@njit(**OPTIONS)
def colors(start, stop, inputs, cam, boxes, out):
    """Write max(0, 0.5 + sum_k Y_k sh_k) of the drawn Gaussians into out [N, 3].

    ``inputs`` is (means [N, 3], sh [N, K, 3], frames [N, 3, 3] or [0, 3, 3] for none).
    """
    means, sh, frames = inputs
    basis = np.empty(16)
    for n in range(start, stop):
        if boxes[n, 1] > boxes[n, 0]:
            x, y, z, _ = _view(means, n, cam)
            x, y, z = _to_frame(frames, n, (x, y, z))
            _basis(x, y, z, sh.shape[1], basis)
            for channel in range(3):
                out[n, channel] = max(0.0, _color(sh, n, basis, channel))


@njit(**OPTIONS)
def _direction_vjp(sh, n, scratch, v_color):
    """Gradient with respect to the direction in the Gaussian's frame."""
    gx, gy, gz = 0.0, 0.0, 0.0
    for k in range(1, sh.shape[1]):
        s = 0.0
        for channel in range(3):
            s += v_color[channel] * sh[n, k, channel]
        gx += s * scratch[k, 0]
        gy += s * scratch[k, 1]
        gz += s * scratch[k, 2]
    return gx, gy, gz


@njit(**OPTIONS)
def _frame_vjp(frames, n, view, local, v_frames):
    """Back from the Gaussian's frame to the scene; adds the gradient of the frame."""
    if len(frames) == 0:
        return local
    for i in range(3):
        for j in range(3):
            v_frames[n, i, j] += view[i] * local[j]
    return (
        frames[n, 0, 0] * local[0] + frames[n, 0, 1] * local[1] + frames[n, 0, 2] * local[2],
        frames[n, 1, 0] * local[0] + frames[n, 1, 1] * local[1] + frames[n, 1, 2] * local[2],
        frames[n, 2, 0] * local[0] + frames[n, 2, 1] * local[1] + frames[n, 2, 2] * local[2],
    )


@njit(**OPTIONS)
def _mean_vjp(n, view, inv, grad, v_means):
    """Through the normalisation of the direction, (I - d d^T) / |x|, into v_means."""
    along = view[0] * grad[0] + view[1] * grad[1] + view[2] * grad[2]
    for k in range(3):
        v_means[n, k] += (grad[k] - along * view[k]) * inv


@njit(**OPTIONS)
def colors_backward(start, stop, inputs, cam, boxes, v_out, outputs):
    """Gradients of ``colors``: v_out [N, 3] into outputs = (v_means, v_sh, v_frames), added."""
    means, sh, frames = inputs
    v_means, v_sh, v_frames = outputs
    basis, slopes, v_color = np.empty(16), np.empty((16, 3)), np.empty(3)
    count = sh.shape[1]
    for n in range(start, stop):
        if boxes[n, 1] <= boxes[n, 0]:
            continue
        x, y, z, inv = _view(means, n, cam)
        u, v, w = _to_frame(frames, n, (x, y, z))
        _basis(u, v, w, count, basis)
        for channel in range(3):
            v_color[channel] = v_out[n, channel] if _color(sh, n, basis, channel) > 0.0 else 0.0
            for k in range(count):
                v_sh[n, k, channel] += v_color[channel] * basis[k]
        if count > 1:
            _basis_gradient(u, v, w, count, slopes)
            local = _direction_vjp(sh, n, slopes, v_color)
            grad = _frame_vjp(frames, n, (x, y, z), local, v_frames)
            _mean_vjp(n, (x, y, z), inv, grad, v_means)
