"""A scorecard for people: a table, a plot of every dose-response, a section for the page of the weights."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageDraw, ImageFont

HEAD = ("axis", "unit", "allowed", "off", "bias", "gain", "R2", "worst", "unscored", "lag s", "floor", "dropped",
        "shuffled", "")  # fmt: skip

_SCALE = 2  # supersampling of the plots
_CELL, _PLOT, _COLUMNS, _LEFT, _TOP = (236, 206), (168, 128), 4, 48, 44
_PAPER, _INK, _QUIET, _IDEAL = (252, 252, 250), (40, 40, 44), (120, 120, 126), (190, 190, 194)
_FLOOR, _MODEL = (70, 130, 190), (205, 85, 40)


def table_rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """The axes of a scorecard, as cells under HEAD."""
    return [_cells(row) for row in document["axes"]]


def remarks(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows (name, text) of what is not in the table."""
    still, known, alone = document["locked_off"], document["identity"], document["isolation"]
    rows = [
        ("within tolerance", f"{document['passed']} of {len(document['axes'])} axes"),
        ("obedience", f"{_figure(document['obedience'])}, the mean of exp(-off / allowed); 1 is perfect"),
    ]
    recognised = ", ".join(
        f"{name} {_percent(found['top_1'])} of {found['films']} films ({_percent(found['unscored'])} unscored)"
        for name, found in (("model", known["model"]), ("floor", known["floor"]))
    )
    rows.append(("identity", f"recognised among {known['among']} people: {recognised}"))
    if still["model"]["films"]:
        model, floor = still["model"], still["floor"]
        drift = f"drift {_figure(model['drift_px_a_frame'])} px/frame (floor {_figure(floor['drift_px_a_frame'])})"
        flicker = f"flicker {_figure(model['flicker_pct'])} % (floor {_figure(floor['flicker_pct'])})"
        rows.append(("locked off", f"{drift}, {flicker}, over {model['films']} films"))
    if alone["model"] is not None:
        rows.append(("isolation", f"{_figure(alone['model'])} px (floor {_figure(alone['floor'])}): {alone['what']}"))
    return rows


def cross_talk_rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each commanded axis, a column for each axis that moved, in %: model (floor)."""
    talk = document["cross_talk"]
    return [
        (
            name,
            *(f"{_percent(model)} ({_percent(floor)})" for model, floor in zip(row, talk["floor"][name], strict=True)),
        )
        for name, row in talk["model"].items()
    ]


def markdown(document: dict[str, Any]) -> str:
    """The scorecard as a section of a page, its heading included."""
    made = f"{document['seeds']} seeds of 7 doses an axis, {document['frames']} frames of {document['width']}x"
    made += f"{document['height']}, {document['steps']} steps, on {document['device']}; `rushes score --record`."
    lines = ["## Scorecard", "", made, "", f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    lines += [f"| {' | '.join(cells)} |" for cells in table_rows(document)]
    return "\n".join([*lines, "", *(f"- {name}: {text}" for name, text in remarks(document))]) + "\n"


def picture(document: dict[str, Any]) -> bytes:
    """A plot for each axis, commanded across and measured up: the ideal line, the floor's dots and the model's. PNG."""
    rows = document["axes"]
    across = min(_COLUMNS, len(rows))
    down = -(-len(rows) // across)
    size = across * _CELL[0] + 16, down * _CELL[1] + 48
    page = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), _PAPER)
    ink = _Ink(ImageDraw.Draw(page))
    ink.text((14, 10), "asked (across) and measured (up)", 13, _INK)
    ink.dot((14 + 6, 36), 3, _MODEL, True)
    ink.text((26, 29), "model", 11, _QUIET)
    ink.dot((80, 36), 3, _FLOOR, False)
    ink.text((88, 29), "the stage's own film (noise floor)", 11, _QUIET)
    for position, row in enumerate(rows):
        _plot(ink, row, (position % across * _CELL[0], position // across * _CELL[1] + 48))
    data = io.BytesIO()
    page.resize(size, Image.Resampling.LANCZOS).quantize(64, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
    return data.getvalue()


class _Ink:
    """Drawing in pixels of the finished page."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw

    def text(self, at: tuple[float, float], text: str, size: int, color: tuple[int, ...], anchor: str = "la") -> None:
        font = ImageFont.load_default(size * _SCALE)
        self._draw.text((at[0] * _SCALE, at[1] * _SCALE), text, color, font, anchor=anchor)

    def line(self, one: tuple[float, float], other: tuple[float, float], color: tuple[int, ...]) -> None:
        self._draw.line([tuple(c * _SCALE for c in one), tuple(c * _SCALE for c in other)], color, _SCALE)

    def dot(self, at: tuple[float, float], radius: float, color: tuple[int, ...], full: bool) -> None:
        (x, y), r = (at[0] * _SCALE, at[1] * _SCALE), radius * _SCALE
        self._draw.ellipse((x - r, y - r, x + r, y + r), color if full else None, color, _SCALE)


def _plot(ink: _Ink, row: dict[str, Any], corner: tuple[int, int]) -> None:
    left, top = corner[0] + _LEFT, corner[1] + _TOP
    wide, high = _PLOT
    asked = [point["asked"] for point in row["points"]]
    seen = [point[name] for point in row["points"] for name in ("floor", "model") if point[name] is not None]
    low, top_value = min(asked), max(asked)
    # An outlier must not squeeze the others: what is beyond twice the commanded range is drawn on the frame.
    margin = (top_value - low) or 1.0
    low, top_value = (max(min([low, *seen]), low - margin / 2), min(max([top_value, *seen]), top_value + margin / 2))
    span = (top_value - low) or 1.0

    def at_pixel(x: float, y: float) -> tuple[float, float]:
        across, up = ((min(max(v, low), top_value) - low) / span for v in (x, y))
        return left + across * wide, top + (1 - up) * high

    verdict = "ok" if row["passes"] else "OFF"
    ink.text((left, corner[1] + 8), f"{row['axis']}, {row['unit']}", 12, _INK)
    figures = f"off {_figure(row['model']['mae'])} of {_figure(row['tolerance'])}, gain {_figure(row['model']['gain'])}"
    ink.text((left, corner[1] + 24), f"{figures}  {verdict}", 10, _QUIET)
    for one, other in (((low, low), (low, top_value)), ((low, low), (top_value, low))):
        ink.line(at_pixel(*one), at_pixel(*other), _QUIET)
    ink.line(at_pixel(low, low), at_pixel(top_value, top_value), _IDEAL)
    for value, at, anchor in ((low, top + high, "rs"), (top_value, top, "rt")):
        ink.text((left - 5, at), _figure(value), 10, _QUIET, anchor)
    ink.text((left, top + high + 4), _figure(low), 10, _QUIET)
    ink.text((left + wide, top + high + 4), _figure(top_value), 10, _QUIET, "ra")
    for name, radius, color, full in (("model", 3.0, _MODEL, True), ("floor", 3.5, _FLOOR, False)):
        for point in row["points"]:
            if point[name] is not None:
                ink.dot(at_pixel(point["asked"], point[name]), radius, color, full)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    model = row["model"]
    figures = (row["tolerance"], model["mae"], model["bias"], model["gain"], model["r2"], model["worst"])
    words = " ".join(_verdict(row))
    return (
        row["axis"], row["unit"], *map(_figure, figures), _percent(model["unscored"]), _figure(row["lag_s"]),
        *(_figure(row[name]["mae"]) for name in ("floor", "dropped", "shuffled")), words,
    )  # fmt: skip


def _verdict(row: dict[str, Any]) -> Iterator[str]:
    yield "ok" if row["passes"] else "OFF"
    if not row["beats_baselines"]:
        yield "no better than uncontrolled"


def _figure(value: float | None) -> str:
    """Three significant digits, 0 below 0.0005; a dash for what could not be measured."""
    if value is None:
        return "-"
    return "0" if abs(value) < 5e-4 else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
