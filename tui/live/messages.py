"""Messages that the watcher and other threads post. A newer one replaces an older in the queue, so none pile up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from textual.message import Message

from appliance.library.take import Take
from appliance.measuring.result import Measured


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The library at one moment, as the board shows it."""

    live: tuple[Take, ...] = ()  # rendering, then queued in their order
    ended: tuple[Take, ...] = ()  # newest first; only those that match `words`
    words: str = ""  # of the search
    measures: Mapping[int, tuple[Measured, ...]] = field(default_factory=dict)  # by take id

    @property
    def takes(self) -> tuple[Take, ...]:
        """Every take in the order shown."""
        return self.live + self.ended


class LibraryChanged(Message):
    """The library was read again: another process committed, or the search changed."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot

    def can_replace(self, message: Message) -> bool:
        """A newer snapshot replaces an older."""
        return isinstance(message, LibraryChanged)


class MachineSeen(Message):
    """The machine and the state of its daemon, in words."""

    def __init__(self, machine: str, daemon: str) -> None:
        super().__init__()
        self.machine = machine
        self.daemon = daemon

    def can_replace(self, message: Message) -> bool:
        """A newer reading replaces an older."""
        return isinstance(message, MachineSeen)


class Notice(Message):
    """A line for the person at the desk: what was done, or why it failed."""

    def __init__(self, text: str, failed: bool = False) -> None:
        super().__init__()
        self.text = text
        self.failed = failed
