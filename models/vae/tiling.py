"""Pictures in pieces: which cells a tile gives, and which it has to see for that. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one axis, in cells: what a tile keeps, and the wider stretch it is computed from."""

    kept: slice
    seen: slice

    def inside(self, scale: int) -> slice:
        """What is kept, counted from the beginning of what is seen, at `scale` pixels a cell."""
        first = self.kept.start - self.seen.start
        return slice(scale * first, scale * (first + self.kept.stop - self.kept.start))

    def outside(self, scale: int) -> slice:
        """What is kept, counted from the beginning of the axis, at `scale` pixels a cell."""
        return slice(scale * self.kept.start, scale * self.kept.stop)

    def around(self, scale: int) -> slice:
        """What is seen, counted from the beginning of the axis, at `scale` pixels a cell."""
        return slice(scale * self.seen.start, scale * self.seen.stop)


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a picture."""

    rows: Span
    columns: Span


def spans(length: int, side: int, reach: int) -> list[Span]:
    """An axis of `length` cells in parts of at most `side`, as equal as they can be; each sees `reach` cells more at
    both ends, as far as there are any. `side` 0: one part.
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
    """For each part, how much it counts at each pixel that it sees, at `scale` pixels a cell.

    Where two parts see the same, one fades into the other in a straight line. The shares of a pixel sum to 1.
    """
    length = scale * parts[-1].seen.stop
    shares = [[1.0] * length for _ in parts]
    for (before, left), (after, right) in pairwise(zip(parts, shares, strict=True)):
        start, stop = scale * after.seen.start, scale * before.seen.stop
        for pixel in range(length):
            risen = min(1.0, max(0.0, pixel + 0.5 - start) / max(0.5, stop - start))  # 0.5: where nothing is shared
            left[pixel] *= 1 - risen
            right[pixel] *= risen
    totals = [sum(column) for column in zip(*shares, strict=True)]  # not 1 where a part is narrower than its fading
    return [
        [share[pixel] / totals[pixel] for pixel in range(*part.around(scale).indices(length))]
        for part, share in zip(parts, shares, strict=True)
    ]
