# SPDX-License-Identifier: Apache-2.0
"""The completion network: a U-Net over the sheet that mixes colours the photo shows.

It copies instead of inventing: each texel is a softmax over what is seen there, on the mirror side,
behind it, around it, and what attention fetches from elsewhere, whose values are plain colours;
only a small rest is free. What is around and what is fetched come first of all from places that
show the same material, so a shirt's colour does not run into trousers.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from crowdgaussian_shared.geometry.avatar import MATERIALS
from torch import Tensor, nn
from torch.nn import functional

from .layout import HEIGHT, LAYERS, WIDTH, Sheet

# texels a side, of what asks, of what lends its mean colour, and of what is around
CELL, BLOCK, PAIR = 4, 8, 2
_MIRROR, _BEHIND = 0.5, 0.1  # what the other side's colours count in what is around, against seen
_STRANGER = 1e-3  # the same of colours of another material: where the own one is nowhere seen
_FULL = 8.0  # 1 over the share of a neighbourhood that has to be seen to be taken alone
_REST = 0.15  # of sRGB: the most that is free; the prototype had 0.4 and cast shirts onto jeans
_LEAST_SEEN = 0.05  # of how well a place is seen, to be copied
_NEVER = -1e4  # logit of what cannot be copied
_SEEN_FIRST, _MIRROR_NEXT, _NEAR_ELSE = 4.0, 2.0, 1.0  # logits of an untrained network
_FAINT = -12.0  # least logit of a block against the best one, so that no sum vanishes
_OFFSET_UNIT = 10.0  # what a metre of offset counts as input
_NORMAL_UNIT = 0.7  # the same of a unit normal
_LOG_ERROR = (-5.0, 1.0)  # range of the logarithm of the predicted error


@dataclass(frozen=True)
class CompletionConfig:
    """How large the network is; the default has 1.35 million parameters."""

    widths: tuple[int, ...] = (
        64,
        112,
        160,
    )  # channels on cells, and on twice and four times as large
    heads: int = 4  # colours that attention fetches for each cell
    keys: int = 24  # length of what is asked and answered


class Observed(NamedTuple):
    """What is known of B people at the V texels."""

    colours: Tensor  # [B, V, 3] sRGB, read as far as seen
    seen: Tensor  # [B, V] 0..1
    material: Tensor  # [B, V] int64, as avatar/materials.py guesses it
    offset: Tensor  # [B, V] metres from the body to the clothed surface


class Completed(NamedTuple):
    """What the network makes of it."""

    colours: Tensor  # [B, V, 3] sRGB, a little beyond 0..1 at times
    log_error: Tensor  # [B, V] logarithm of the expected absolute error of a colour


class _Sources(NamedTuple):
    """Whose colours a texel may have; C candidates."""

    planes: Tensor  # [B, V, P] the network's input
    colours: Tensor  # [B, V, 4, 3] seen, on the mirror side, behind, around
    usable: Tensor  # [B, V, 3] bool: all but around, which always is


class CompletionNet(nn.Module):
    """See the module; the layout of the sheet is part of it, not of its weights."""

    mirror: Tensor  # [V] of the sheet
    opposite: Tensor  # [V]
    place: Tensor  # [V, 7] position, normal and one, as input
    tiles: Tensor  # [U] CELL x CELL texels of both layers that are in use
    tile: Tensor  # [V] in which of them each lies ...
    slot: Tensor  # [V] ... and where in it
    cells: Tensor  # [T] CELL x CELL texels of one layer in use, of LAYERS x U
    blocks: Tensor  # [K] BLOCK x BLOCK texels of one layer that are in use
    own_cell: Tensor  # [V] into cells
    own_block: Tensor  # [V] into blocks
    own_pair: Tensor  # [V] which PAIR x PAIR texels of one layer
    corners: Tensor  # [V, 4] into cells
    shares: Tensor  # [V, 4]

    def __init__(self, sheet: Sheet, config: CompletionConfig = CompletionConfig()) -> None:
        super().__init__()
        self.config, widths, heads = config, config.widths, config.heads
        self._lay_out(sheet)
        self.candidates = 4 + heads
        self.outputs = self.candidates + 3 + 1
        planes = 14 + 3 + 1 + len(MATERIALS) + self.place.shape[-1]
        self.stem = nn.Linear(LAYERS * CELL**2 * planes, widths[0])
        pairs = list(zip(widths[:-1], widths[1:]))
        self.down = nn.ModuleList(
            [_Block(widths[0], widths[0]), *(_Block(few, many) for few, many in pairs)]
        )
        self.up = nn.ModuleList(_Block(few + many, few) for few, many in pairs)
        self.asks = nn.Linear(widths[0], LAYERS * heads * config.keys)
        self.answers = nn.Linear(widths[0], LAYERS * heads * config.keys)
        self.out = nn.Linear(widths[0] + LAYERS * heads * 3, LAYERS * CELL**2 * self.outputs)
        self._start()

    def _lay_out(self, sheet: Sheet) -> None:
        """Keep the sheet's indices and planes."""
        place = np.column_stack([sheet.position, _NORMAL_UNIT * sheet.normal, np.ones(len(sheet))])
        layer, row, column = sheet.rows
        tiles, tile = np.unique(row // CELL * (WIDTH // CELL) + column // CELL, return_inverse=True)
        cells, own_cell = np.unique(layer * len(tiles) + tile, return_inverse=True)
        blocks, own_block = np.unique(_square(sheet, BLOCK), return_inverse=True)
        corners, shares = _between_cells(sheet, own_cell)
        arrays = {
            "mirror": sheet.mirror,
            "opposite": sheet.opposite,
            "place": place.astype(np.float32),
            "tiles": tiles,
            "tile": tile,
            "slot": (layer * CELL + row % CELL) * CELL + column % CELL,
            "cells": cells,
            "blocks": blocks,
            "own_cell": own_cell,
            "own_block": own_block,
            "own_pair": _square(sheet, PAIR),
            "corners": corners,
            "shares": shares.astype(np.float32),
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    @torch.no_grad()
    def _start(self) -> None:
        """Untrained, it keeps what is seen, else takes the mirror image, else what is around."""
        self.out.weight.mul_(0.1)
        bias = self.out.bias.view(LAYERS * CELL**2, self.outputs)
        bias.zero_()
        bias[:, 0], bias[:, 1], bias[:, 3] = _SEEN_FIRST, _MIRROR_NEXT, _NEAR_ELSE

    def forward(self, observed: Observed) -> Completed:
        """Colours of all texels, and how far off they may be."""
        sources = self._sources(observed)
        grid = self._features(sources.planes)
        features = grid.flatten(2).index_select(2, self.tiles).transpose(1, 2)  # [B, U, width]
        fetched = self._fetched(grid, features, observed)  # [B, T, M, heads * 3]
        wide = torch.cat([features, self._by_tiles(fetched, observed.material)], 2)
        raw = self.out(wide).unflatten(2, (LAYERS * CELL**2, self.outputs)).flatten(1, 2)
        raw = raw.index_select(1, self.tile * LAYERS * CELL**2 + self.slot)
        return self._mixed(raw, sources, self._copies(fetched, observed.material))

    # What may be copied

    def _sources(self, observed: Observed) -> _Sources:
        colours, seen, material = observed.colours, observed.seen, observed.material
        parts, shown, usable = [], [], []
        for side in (None, self.mirror, self.opposite):
            there = [v if side is None else v[:, side] for v in (colours, seen, material)]
            parts += [(there[0] - 0.5) * there[1][..., None], there[1][..., None]]
            if side is not None:
                parts.append((there[2] == material).float()[..., None])
            shown.append(there[0])
            usable.append(there[1] > _LEAST_SEEN)
        around = self._around(observed)
        one_hot = functional.one_hot(material, len(MATERIALS)).float()
        offset = _OFFSET_UNIT * observed.offset[..., None]
        place = self.place.expand(len(seen), -1, -1)
        planes = torch.cat([*parts, around - 0.5, offset, one_hot, place], 2)
        return _Sources(planes, torch.stack([*shown, around], 2), torch.stack(usable, 2))

    def _around(self, observed: Observed) -> Tensor:
        """Of the same material, from the smallest neighbourhood that shows any.  # [B, V, 3]"""
        many, size = len(MATERIALS), (HEIGHT // PAIR, WIDTH // PAIR)
        total = _by_material(*observed[:3])
        for side, counts in ((self.mirror, _MIRROR), (self.opposite, _BEHIND)):
            total = total + counts * _by_material(*(values[:, side] for values in observed[:3]))
        known = _sum(total, self.own_pair, LAYERS * size[0] * size[1]) / PAIR**2
        known = known.unflatten(1, (LAYERS, *size)).unflatten(4, (many, 4))
        known = known.permute(0, 1, 4, 5, 2, 3).flatten(0, 2)  # [B * LAYERS * M, 4, h, w]
        spread = _spread(known).permute(0, 2, 3, 1).unflatten(0, (-1, LAYERS, many))
        area = size[0] * size[1]
        layer, place = self.own_pair // area, self.own_pair % area
        index = (layer * many + observed.material) * area + place  # [B, V]
        return spread.flatten(1, 4).gather(1, index[..., None].expand(-1, -1, 3))

    # The network

    def _features(self, planes: Tensor) -> Tensor:
        """What a U-Net over tiles of both layers makes of the planes.  # [B, widths[0], h, w]"""
        batch, _, count = planes.shape
        rows, columns = HEIGHT // CELL, WIDTH // CELL
        used = planes.new_zeros(batch, len(self.tiles) * LAYERS * CELL**2, count)
        used = used.index_copy(1, self.tile * LAYERS * CELL**2 + self.slot, planes)
        stem = self.stem(used.view(batch, len(self.tiles), -1)).transpose(1, 2)
        hidden = stem.new_zeros(*stem.shape[:2], rows * columns).index_copy(2, self.tiles, stem)
        hidden, kept = hidden.unflatten(2, (rows, columns)), []
        for level, block in enumerate(self.down):
            hidden = block(functional.avg_pool2d(hidden, 2) if level else hidden)
            kept.append(hidden)
        for level in reversed(range(len(self.up))):
            wider = functional.interpolate(hidden, size=kept[level].shape[-2:])
            hidden = self.up[level](torch.cat([kept[level], wider], 1))
        return hidden

    def _fetched(self, grid: Tensor, features: Tensor, observed: Observed) -> Tensor:
        """Colours that each cell asks for, of each material.  # [B, T, M, heads * 3]"""
        heads, keys, many = self.config.heads, self.config.keys, len(MATERIALS)
        coarse = functional.avg_pool2d(grid, BLOCK // CELL).flatten(2).transpose(1, 2)

        def rows(values: Tensor, used: Tensor) -> Tensor:
            """[B, n, LAYERS * heads * keys] -> [B, heads, used of LAYERS * n, keys]"""
            split = values.unflatten(2, (LAYERS, heads, keys)).permute(0, 3, 2, 1, 4)
            return split.flatten(2, 3).index_select(2, used)

        asks = rows(self.asks(features), self.cells)
        answers = rows(self.answers(coarse), self.blocks)
        lent = _sum(_by_material(*observed[:3]), self.own_block, len(self.blocks))[:, None]
        some = lent.unflatten(3, (many, 4))[..., 3].sum(3) > 0  # [B, 1, K]
        logits = asks @ answers.transpose(2, 3) * keys**-0.5  # [B, heads, T, K]
        logits = logits.masked_fill(~some[:, :, None], _NEVER)
        logits = (logits - logits.amax(3, keepdim=True).detach()).clamp(min=_FAINT)
        sums = ((logits.exp() * some[:, :, None]) @ lent).unflatten(3, (many, 4))
        colours = sums[..., :3] / sums[..., 3:].clamp(min=1e-12)  # [B, heads, T, M, 3]
        return colours.permute(0, 2, 3, 1, 4).flatten(3)

    def _by_tiles(self, fetched: Tensor, material: Tensor) -> Tensor:
        """What was fetched for each cell's own materials.  # [B, U, LAYERS * heads * 3]"""
        one_hot = functional.one_hot(material, len(MATERIALS)).float()
        share = _sum(one_hot[..., None], self.own_cell, len(self.cells))
        share = share / share.sum(2, keepdim=True)
        mean = (share[..., None] * fetched).sum(2)  # [B, T, heads * 3]
        count = len(self.tiles)
        flat = mean.new_zeros(len(mean), LAYERS * count, mean.shape[2])
        flat = flat.index_copy(1, self.cells, mean).unflatten(1, (LAYERS, count))
        return flat.transpose(1, 2).flatten(2)

    def _copies(self, fetched: Tensor, material: Tensor) -> Tensor:
        """What was fetched for each texel's material, between cells.  # [B, V, heads, 3]"""
        flat, many = fetched.flatten(1, 2), len(MATERIALS)
        values = []
        for corner in range(4):
            row = self.corners[:, corner] * many + material  # [B, V]
            own = flat.gather(1, row[..., None].expand(-1, -1, flat.shape[2]))
            values.append(self.shares[:, corner, None] * own)
        return sum(values[1:], values[0]).unflatten(2, (self.config.heads, 3))

    def _mixed(self, raw: Tensor, sources: _Sources, copies: Tensor) -> Completed:
        count = self.candidates
        colours = torch.cat([sources.colours, copies], 2)
        never = torch.where(sources.usable, 0.0, _NEVER)
        logits = torch.cat([raw[..., :3] + never, raw[..., 3:count]], 2)
        mixed = (logits.softmax(2)[..., None] * colours).sum(2)
        free = _REST * torch.tanh(raw[..., count : count + 3])
        return Completed(mixed + free, raw[..., -1].clamp(*_LOG_ERROR))


class _Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(k, out, 3, padding=1) for k in (width, out))
        self.norms = nn.ModuleList(nn.GroupNorm(8, out) for _ in range(2))
        self.short = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        inner = functional.silu(self.norms[0](self.first(hidden)))
        return functional.silu(self.norms[1](self.second(inner)) + self.short(hidden))


def _by_material(colours: Tensor, seen: Tensor, material: Tensor) -> Tensor:
    """Seen colours, times how well they are seen, apart by material; strangers hardly count.

    Returns:
        # [B, V, M, 4] the last is the weight
    """
    weighed = torch.cat([colours, torch.ones_like(colours[..., :1])], 2) * seen[..., None]
    counts = functional.one_hot(material, len(MATERIALS)).float() + _STRANGER
    return counts[..., None] * weighed[:, :, None]


def _spread(known: Tensor) -> Tensor:
    """Pull and push (Gortler et al. 1996): colours for all, from the finest level that has any.

    Args:
        known: [N, 4, H, W] colours times weight, weight.

    Returns:
        # [N, 3, H, W]
    """
    levels = [known]
    while min(levels[-1].shape[-2:]) > 2:
        levels.append(functional.avg_pool2d(levels[-1], 2, ceil_mode=True))
    colours = levels[-1].mean((2, 3), keepdim=True)
    colours = colours[:, :3] / colours[:, 3:].clamp(min=1e-9)
    for level in reversed(levels):
        wider = functional.interpolate(colours, size=level.shape[-2:], mode="bilinear")
        weight = level[:, 3:]
        share = (_FULL * weight).clamp(max=1)
        own = level[:, :3] / weight.clamp(min=1e-9)
        colours = share * own + (1 - share) * wider
    return colours


def _sum(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Values [B, V, ...] added up by an index [V].  # [B, count, ...flat]"""
    flat = values.flatten(2)
    return flat.new_zeros(len(flat), count, flat.shape[2]).index_add(1, index, flat)


def _square(sheet: Sheet, side: int) -> np.ndarray:
    """Which side x side texels each lies in, numbered over layers, rows and columns.  # [V]"""
    layer, row, column = sheet.rows
    return (layer * (HEIGHT // side) + row // side) * (WIDTH // side) + column // side


def _between_cells(sheet: Sheet, own_cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The four used cells around each texel, by their numbers, and their shares.  # [V, 4] each"""
    rows, columns = HEIGHT // CELL, WIDTH // CELL
    number = np.full(LAYERS * rows * columns, -1)
    number[_square(sheet, CELL)] = own_cell
    layer, *place = sheet.rows
    y, x = ((part + 0.5) / CELL - 0.5 for part in place)
    corners, shares = [], []
    for down in (0, 1):
        for across in (0, 1):
            row, column = np.floor(y).astype(int) + down, np.floor(x).astype(int) + across
            near = (1 - np.abs(y - row)) * (1 - np.abs(x - column))
            r, c = row.clip(0, rows - 1), column.clip(0, columns - 1)
            corner = number[(layer * rows + r) * columns + c]
            corners.append(corner.clip(0))
            shares.append(near * (corner >= 0))
    share = np.stack(shares, 1)
    return np.stack(corners, 1), share / share.sum(1, keepdims=True)
