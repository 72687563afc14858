"""What the watcher and the desk's threads post. Stale news is replaced by newer: a flood cannot lag the screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from textual.message import Message

from appliance.library.take import Take
from appliance.measuring.result import Measured


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The library at one moment: what the board shows."""

    live: tuple[Take, ...] = ()  # rendering, then waiting in their order
    ended: tuple[Take, ...] = ()  # newest first, narrowed by `words`
    words: str = ""  # what was searched for
    measures: Mapping[int, tuple[Measured, ...]] = field(default_factory=dict)  # by take: asked and measured

    @property
    def takes(self) -> tuple[Take, ...]:
        """Every take on the board in the order shown."""
        return self.live + self.ended


class LibraryChanged(Message):
    """The library was read again after somebody committed, or after the words changed."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot

    def can_replace(self, message: Message) -> bool:
        """A newer reading makes an older one worthless."""
        return isinstance(message, LibraryChanged)


class MachineSeen(Message):
    """What the machine is and whether a daemon serves it, in words."""

    def __init__(self, machine: str, engine: str) -> None:
        super().__init__()
        self.machine = machine
        self.engine = engine

    def can_replace(self, message: Message) -> bool:
        """Only the newest look counts."""
        return isinstance(message, MachineSeen)


class Notice(Message):
    """Something that the person at the desk should read: what was done, or why not."""

    def __init__(self, text: str, failed: bool = False) -> None:
        super().__init__()
        self.text = text
        self.failed = failed
