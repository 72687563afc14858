"""The desk: the application around the screens. The daemon renders, so a lost connection costs nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence

from textual.app import App
from textual.filter import LineFilter
from textual.theme import Theme

from tui.live.messages import MachineSeen
from tui.live.watcher import probe_machine
from tui.output_filter import CleanLines, NoColours
from tui.screens.board import Board

# Near-black background, warm white text, tungsten orange for what is active.
RUSHES_THEME = Theme(
    name="rushes",
    primary="#e0a458",
    secondary="#7ea2aa",
    accent="#e0a458",
    warning="#d9a441",
    error="#e2725b",
    success="#8fb573",
    foreground="#e8e2d6",
    background="#12110f",
    surface="#1a1916",
    panel="#23211d",
    dark=True,
    variables={"footer-key-foreground": "#e0a458", "footer-background": "#1a1916"},
)


class Desk(App[None]):
    """The director's desk."""

    TITLE = "Rushes"
    CSS_PATH = "desk.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 (so declared by Textual)
        (0, "-narrow"),
        (110, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-short"),
        (20, "-usual"),
        (32, "-tall"),
    ]

    def __init__(
        self, clock: Callable[[], float] = time.time, probe: Callable[[], MachineSeen] = probe_machine
    ) -> None:
        super().__init__()
        self._clock = clock
        self._probe = probe
        self._last_filters: list[LineFilter] = [CleanLines()]
        if os.environ.get("NO_COLOR"):
            self._last_filters.append(NoColours())

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's own filters, then ours: whatever they let through is cleaned."""
        return [*super().get_line_filters(), *self._last_filters]

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our two colours, for quiet text and the cursor's row; solid, because rows are drawn without blending."""
        return {"quiet": "#938c80", "row": "#40341f"}

    def on_mount(self) -> None:
        """Theme, signals, first screen."""
        self.register_theme(RUSHES_THEME)
        self.theme = "ansi-dark" if os.environ.get("NO_COLOR") else "rushes"
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for name in (signal.SIGHUP, signal.SIGTERM):
                loop.add_signal_handler(name, self.exit)
        self.push_screen(Board(self._clock, self._probe))
