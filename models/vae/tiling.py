"""Tiles of a picture: which cells one outputs, and which it is computed from. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil


@dataclass(frozen=True, slots=True)
class Span:
    """A range of one axis, in cells: the output of a tile, and the wider range it is computed from."""

    kept: slice
    seen: slice

    def inside(self, scale: int) -> slice:
        """The output range relative to the input range, at `scale` pixels a cell."""
        first = self.kept.start - self.seen.start
        return slice(scale * first, scale * (first + self.kept.stop - self.kept.start))

    def outside(self, scale: int) -> slice:
        """The output range relative to the axis, at `scale` pixels a cell."""
        return slice(scale * self.kept.start, scale * self.kept.stop)

    def around(self, scale: int) -> slice:
        """The input range relative to the axis, at `scale` pixels a cell."""
        return slice(scale * self.seen.start, scale * self.seen.stop)


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a picture."""

    rows: Span
    columns: Span


def spans(length: int, side: int, reach: int) -> list[Span]:
    """An axis of `length` cells in parts of at most `side`, as equal as possible; each is computed from `reach` more
    cells at both ends, as far as the axis goes. `side` 0: one part.
    """
    count = ceil(length / side) if side else 1
    edges = [round(part * length / count) for part in range(count + 1)]
    return [
        Span(slice(first, last), slice(max(0, first - reach), min(length, last + reach)))
        for first, last in pairwise(edges)
    ]


def tiles(height: int, width: int, side: int, reach: int) -> list[Tile]:
    """A picture of `height` x `width` cells in tiles, row by row."""
    return [Tile(rows, columns) for rows in spans(height, side, reach) for columns in spans(width, side, reach)]


def fades(parts: list[Span], scale: int) -> list[list[float]]:
    """Blending weights of each part at each pixel of its input range, at `scale` pixels a cell.

    Where two parts overlap, one fades linearly into the other. The weights of a pixel sum to 1.
    """
    length = scale * parts[-1].seen.stop
    shares = [[1.0] * length for _ in parts]
    for (before, left), (after, right) in pairwise(zip(parts, shares, strict=True)):
        start, stop = scale * after.seen.start, scale * before.seen.stop
        for pixel in range(length):
            risen = min(1.0, max(0.0, pixel + 0.5 - start) / max(0.5, stop - start))  # 0.5: where nothing overlaps
            left[pixel] *= 1 - risen
            right[pixel] *= risen
    totals = [sum(column) for column in zip(*shares, strict=True)]  # not 1 where a part is narrower than its overlaps
    return [
        [share[pixel] / totals[pixel] for pixel in range(*part.around(scale).indices(length))]
        for part, share in zip(parts, shares, strict=True)
    ]
