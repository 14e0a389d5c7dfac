# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels: Gaussians in order of depth, per tile, and blended front to back, both ways.

Each Gaussian in turn is laid over the rows of the tile that its box touches, eight pixels at a
time (SIMD): a tile is TILE_WIDTH wide and its pixels lie row by row in short arrays that stay in
the first-level cache. The cut-offs are those of gsplat 1.5.3 (RasterizeToPixels3DGSFwd.cu): alpha
at most 0.999, below 1/255 skipped, and a Gaussian that would bring the transmittance to 1e-4 or
less ends the pixel without being added. A finished pixel is marked by a negative transmittance.

The backward pass also runs front to back: the colour behind a Gaussian is the pixel's total minus
what lies in front of it, so nothing but the finished image has to be kept.
"""

from typing import Any

import numpy as np
from numba import njit

OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "arcp", "nsz"},
}
TILE_WIDTH = 8  # pixels
TILE_HEIGHT = 32
LANES = TILE_WIDTH * TILE_HEIGHT
HEADER = 8  # rows[m] = mean x y, conic a b c, opacity, first row, end row, then D channels
CHECK_EVERY = 32  # Gaussians between two looks at whether the tile is finished

F = np.float32
ZERO, HALF, ONE = F(0.0), F(0.5), F(1.0)
ALPHA_MAX, ALPHA_MIN, T_MIN = F(0.999), F(1.0 / 255.0), F(1e-4)
EIGHTH, SIGMA_MAX = F(0.125), F(8.0)
E1, E2, E3 = F(-0.9999985632), F(0.4999740632), F(-0.1665068579)
E4, E5, E6 = F(0.0412034114), F(-0.0076346034), F(0.0008420007)


@njit(**OPTIONS)
def _exp_negative(sigma):
    """exp(-sigma) for 0 <= sigma <= 8: the eighth power of a polynomial of degree 6."""
    t = sigma * EIGHTH
    p = ONE + t * (E1 + t * (E2 + t * (E3 + t * (E4 + t * (E5 + t * E6)))))
    p = p * p
    p = p * p
    return p * p


@njit(**OPTIONS)
def _pixel_centres():
    """x and y of the pixel centres of a tile relative to its corner, row by row."""
    xs, ys = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for i in range(LANES):
        xs[i], ys[i] = F(i % TILE_WIDTH) + HALF, F(i // TILE_WIDTH) + HALF
    return xs, ys


@njit(**OPTIONS)
def _place(rows, m, tile, across):
    """Mean of Gaussian m relative to the tile, and the lanes first..last its box touches."""
    left, top = (tile % across) * TILE_WIDTH, (tile // across) * TILE_HEIGHT
    first = np.uintp(max(0, np.int64(rows[m, 6]) - top) * TILE_WIDTH)
    last = np.uintp(min(TILE_HEIGHT, np.int64(rows[m, 7]) - top) * TILE_WIDTH)
    return rows[m, 0] - F(left), rows[m, 1] - F(top), first, last


@njit(**OPTIONS)
def _weights(rows, m, place, centres, trans, weights):
    """Advance the transmittance by one Gaussian; weights get alpha T, negated where clamped."""
    mx, my, first, last = place
    xs, ys = centres
    a, b, c, opacity = HALF * rows[m, 2], rows[m, 3], HALF * rows[m, 4], rows[m, 5]
    for i in range(first, last):
        dx, dy = xs[i] - mx, ys[i] - my
        sigma = a * dx * dx + c * dy * dy + b * dx * dy
        raw = opacity * _exp_negative(min(max(sigma, ZERO), SIGMA_MAX))
        alpha = min(raw, ALPHA_MAX)
        skip = (alpha < ALPHA_MIN) | (sigma < ZERO)
        alpha = ZERO if skip else alpha
        before = trans[i]
        weight = alpha * before
        after = before - weight
        done = after <= T_MIN
        weight = ZERO if done else weight
        trans[i] = -abs(before) if done else after
        weights[i] = -weight if raw > ALPHA_MAX else weight


@njit(**OPTIONS)
def _finished(trans):
    for i in range(LANES):
        if trans[i] > ZERO:
            return False
    return True


@njit(**OPTIONS)
def _add_channels(rows, m, first, last, weights, planes):
    for c in range(planes.shape[0]):
        value = rows[m, HEADER + c]
        for i in range(first, last):
            planes[c, i] += abs(weights[i]) * value


@njit(**OPTIONS)
def _store(tile, across, background, trans, planes, outputs):
    """Write the tile's part of the image, the background behind its first channels."""
    image, alpha = outputs
    left, top = (tile % across) * TILE_WIDTH, (tile // across) * TILE_HEIGHT
    height, width = alpha.shape
    for y in range(top, min(top + TILE_HEIGHT, height)):
        for x in range(left, min(left + TILE_WIDTH, width)):
            i = (y - top) * TILE_WIDTH + x - left
            t = abs(trans[i])
            alpha[y, x] = ONE - t
            for c in range(planes.shape[0]):
                behind = background[c] * t if c < len(background) else ZERO
                image[c, y, x] = planes[c, i] + behind


@njit(**OPTIONS)
def blend(start, stop, rows, tiles, across, background, outputs):
    """Blend tiles start..stop into outputs = (image [D, H, W], alpha [H, W]).

    ``tiles`` is (entries [L, 2], offsets [tiles + 1]); ``background`` [B] lies behind the first B
    channels.
    """
    entries, offsets = tiles
    centres = _pixel_centres()
    trans, weights = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    planes = np.empty((rows.shape[1] - HEADER, LANES), np.float32)
    for tile in range(start, stop):
        trans[:] = ONE
        planes[:] = ZERO
        for j in range(offsets[tile], offsets[tile + 1]):
            if (j - offsets[tile]) % CHECK_EVERY == CHECK_EVERY - 1 and _finished(trans):
                break
            m = entries[j, 0]
            place = _place(rows, m, tile, across)
            _weights(rows, m, place, centres, trans, weights)
            _add_channels(rows, m, place[2], place[3], weights, planes)
        _store(tile, across, background, trans, planes, outputs)


@njit(**OPTIONS)
def _load(tile, across, image, v_image, totals, planes):
    """Fetch the tile's gradients, and per pixel the total of what blending added to the loss."""
    alpha_rest, v_rest = totals[1], totals[2]
    left, top = (tile % across) * TILE_WIDTH, (tile // across) * TILE_HEIGHT
    height, width = alpha_rest.shape
    rest = totals[0]
    planes[:] = ZERO
    rest[:] = ZERO
    for y in range(top, min(top + TILE_HEIGHT, height)):
        for x in range(left, min(left + TILE_WIDTH, width)):
            i = (y - top) * TILE_WIDTH + x - left
            total = -v_rest[y, x] * (ONE - alpha_rest[y, x])
            for c in range(planes.shape[0]):
                planes[c, i] = v_image[c, y, x]
                total += v_image[c, y, x] * image[c, y, x]
            rest[i] = total


@njit(**OPTIONS)
def _dot_channels(rows, m, first, last, planes, dots):
    """Gradient of the loss with respect to the weight of Gaussian m at each pixel."""
    r, g, b, z = rows[m, HEADER], rows[m, HEADER + 1], rows[m, HEADER + 2], rows[m, HEADER + 3]
    for i in range(first, last):
        dots[i] = planes[0, i] * r + planes[1, i] * g + planes[2, i] * b + planes[3, i] * z
    for c in range(4, planes.shape[0]):
        value = rows[m, HEADER + c]
        for i in range(first, last):
            dots[i] += planes[c, i] * value


@njit(**OPTIONS)
def _sigma_gradients(first, last, trans, weights, rest, dots):
    """Turn dots into d loss / d sigma, take this Gaussian off the rest, make weights positive."""
    for i in range(first, last):
        signed = weights[i]
        weight = abs(signed)
        left = rest[i] - weight * dots[i]
        rest[i] = left
        dots[i] = -max(signed, ZERO) * (dots[i] - left / abs(trans[i]))
        weights[i] = weight


@njit(**OPTIONS)
def _shape_gradients(rows, m, place, centres, dots, out, slot):
    """Sum d loss / d sigma over the pixels into the mean, conic and opacity."""
    mx, my, first, last = place
    xs, ys = centres
    s, sx, sy, sxx, sxy, syy = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    for i in range(first, last):
        dx, dy, grad = xs[i] - mx, ys[i] - my, dots[i]
        gx, gy = grad * dx, grad * dy
        s += grad
        sx += gx
        sy += gy
        sxx += gx * dx
        sxy += gx * dy
        syy += gy * dy
    out[slot, 0] = -(rows[m, 2] * sx + rows[m, 3] * sy)
    out[slot, 1] = -(rows[m, 3] * sx + rows[m, 4] * sy)
    out[slot, 2], out[slot, 3], out[slot, 4] = HALF * sxx, sxy, HALF * syy
    out[slot, 5] = -s / rows[m, 5]


@njit(**OPTIONS)
def _channel_gradients(first, last, weights, planes, out, slot):
    s0, s1, s2, s3 = ZERO, ZERO, ZERO, ZERO
    for i in range(first, last):
        weight = weights[i]
        s0 += weight * planes[0, i]
        s1 += weight * planes[1, i]
        s2 += weight * planes[2, i]
        s3 += weight * planes[3, i]
    out[slot, 6], out[slot, 7], out[slot, 8], out[slot, 9] = s0, s1, s2, s3
    for c in range(4, planes.shape[0]):
        total = ZERO
        for i in range(first, last):
            total += weights[i] * planes[c, i]
        out[slot, 6 + c] = total


@njit(**OPTIONS)
def blend_backward(start, stop, rows, tiles, across, forward, v_outputs, grads):
    """Gradients of ``blend`` for tiles start..stop into grads [L, 6 + D], one row per slot.

    ``forward`` is (image, alpha) with the background in it, ``v_outputs`` (v_image, v_alpha); the
    rows of Gaussians behind a finished tile must be zero beforehand.
    """
    entries, offsets = tiles
    centres = _pixel_centres()
    trans, weights = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    rest, dots = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    planes = np.empty((rows.shape[1] - HEADER, LANES), np.float32)
    for tile in range(start, stop):
        _load(tile, across, forward[0], v_outputs[0], (rest, forward[1], v_outputs[1]), planes)
        trans[:] = ONE
        for j in range(offsets[tile], offsets[tile + 1]):
            if (j - offsets[tile]) % CHECK_EVERY == CHECK_EVERY - 1 and _finished(trans):
                break
            m, slot = entries[j, 0], entries[j, 1]
            place = _place(rows, m, tile, across)
            first, last = place[2], place[3]
            _weights(rows, m, place, centres, trans, weights)
            _dot_channels(rows, m, first, last, planes, dots)
            _sigma_gradients(first, last, trans, weights, rest, dots)
            _shape_gradients(rows, m, place, centres, dots, grads, slot)
            _channel_gradients(first, last, weights, planes, grads, slot)


# Order Gaussians by depth and list them per tile; add tile gradients up again. A Gaussian that
# touches k tiles owns k consecutive slots. Tiles write gradients into slots, so no two threads ever
# write to the same place and the sums do not depend on the number of threads.

RADIX_BITS = 11
RADIX = 1 << RADIX_BITS


@njit(**OPTIONS)
def _radix_pass(keys, order, shift, out):
    """One stable counting sort of ``order`` by 11 bits of the keys."""
    starts = np.zeros(RADIX + 1, np.int64)
    for n in order:
        starts[((keys[n] >> shift) & (RADIX - 1)) + 1] += 1
    for k in range(RADIX):
        starts[k + 1] += starts[k]
    for n in order:
        digit = (keys[n] >> shift) & (RADIX - 1)
        out[starts[digit]] = n
        starts[digit] += 1


@njit(**OPTIONS)
def depth_order(geo, boxes):
    """Indices of the drawn Gaussians, near to far; equal depths keep their order.  # [M] int32"""
    count = len(boxes)
    order = np.empty(count, np.int32)
    keys = np.empty(count, np.int64)
    depths = np.empty(count, np.float32)
    drawn = 0
    for n in range(count):
        depths[n] = geo[n, 6]
        if boxes[n, 1] > boxes[n, 0]:
            order[drawn] = n
            drawn += 1
    bits = depths.view(np.int32)  # depths are positive: their bits sort like the numbers
    for n in range(count):
        keys[n] = bits[n]
    order = order[:drawn].copy()
    spare = np.empty_like(order)
    for k in range(3):
        _radix_pass(keys, order, k * RADIX_BITS, spare)
        order, spare = spare, order
    return order


@njit(**OPTIONS)
def _tile_span(box, m):
    return (
        box[m, 0] // TILE_WIDTH,
        (box[m, 1] - 1) // TILE_WIDTH + 1,
        box[m, 2] // TILE_HEIGHT,
        (box[m, 3] - 1) // TILE_HEIGHT + 1,
    )


@njit(**OPTIONS)
def count_tiles(order, boxes, across, down):
    """Slots before each Gaussian [M + 1] and list entries before each tile [tiles + 1]."""
    slots = np.zeros(len(order) + 1, np.int64)
    offsets = np.zeros(across * down + 1, np.int64)
    for m in range(len(order)):
        x0, x1, y0, y1 = _tile_span(boxes, order[m])
        slots[m + 1] = slots[m] + (x1 - x0) * (y1 - y0)
        for y in range(y0, y1):
            for x in range(x0, x1):
                offsets[y * across + x + 1] += 1
    for t in range(across * down):
        offsets[t + 1] += offsets[t]
    return slots, offsets


@njit(**OPTIONS)
def fill_tiles(order, boxes, across, offsets, entries):
    """Write (rank, slot) of every tile's Gaussians, near to far, into entries [L, 2] int32."""
    cursor = offsets[:-1].copy()
    slot = 0
    for m in range(len(order)):
        x0, x1, y0, y1 = _tile_span(boxes, order[m])
        for y in range(y0, y1):
            for x in range(x0, x1):
                at = cursor[y * across + x]
                entries[at, 0], entries[at, 1] = m, slot
                cursor[y * across + x] = at + 1
                slot += 1


@njit(**OPTIONS)
def gather(start, stop, order, geo, boxes, channels, rows):
    """Pack what blending needs of ranks start..stop into rows [M, HEADER + D].

    ``channels`` is (colors [N, 3], features [N, F]); the depth is the fourth channel.
    """
    colors, features = channels
    for m in range(start, stop):
        n = order[m]
        for k in range(6):
            rows[m, k] = geo[n, k]
        rows[m, 6], rows[m, 7] = boxes[n, 2], boxes[n, 3]
        for k in range(3):
            rows[m, HEADER + k] = colors[n, k]
        rows[m, HEADER + 3] = geo[n, 6]
        for k in range(features.shape[1]):
            rows[m, HEADER + 4 + k] = features[n, k]


@njit(**OPTIONS)
def scatter(start, stop, order, slots, grads, outputs):
    """Add up the slots of ranks start..stop into (v_geo [N, 7], v_colors [N, 3], v_features)."""
    v_geo, v_colors, v_features = outputs
    total = np.empty(grads.shape[1], np.float32)
    for m in range(start, stop):
        total[:] = 0.0
        for slot in range(slots[m], slots[m + 1]):
            for k in range(len(total)):
                total[k] += grads[slot, k]
        n = order[m]
        for k in range(6):
            v_geo[n, k] = total[k]
        for k in range(3):
            v_colors[n, k] = total[6 + k]
        v_geo[n, 6] = total[9]
        for k in range(v_features.shape[1]):
            v_features[n, k] += total[10 + k]
