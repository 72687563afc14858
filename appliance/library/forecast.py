"""When the whole queue will be done: a sum over its takes, for the command line and the desk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.library.progress import progress
from appliance.library.take import Take
from appliance.units import count_words, seconds_words, when


@dataclass(frozen=True, slots=True)
class QueueForecast:
    """The work that is left in the queue."""

    takes: int  # rendering or queued
    seconds: float  # left, of the takes that have a prediction
    unknown: int  # takes without a prediction

    def words(self, now: float) -> str:
        """ "3 takes to go: done in about 1 h 10 min, at 14:20", seen at `now` (unix seconds); "" with nothing to do."""
        if not self.takes:
            return ""
        if self.unknown == self.takes:
            return f"{count_words(self.takes, 'take')} to go, none of them quoted"
        more = f", and {self.unknown} not quoted" if self.unknown else ""
        ends = f"done in about {seconds_words(self.seconds)}, at {self.at(now)}"
        return f"{count_words(self.takes, 'take')} to go: {ends}{more}"

    def at(self, now: float) -> str:
        """The time of day when they are done, with the date where that is another day."""
        return when(now + self.seconds, now)


def forecast(takes: Iterable[Take], now: float) -> QueueForecast:
    """The rest of the takes that render and all of the queued ones, one after the other."""
    left = [progress(take, now).left_seconds for take in takes if not take.ended]
    known = [seconds for seconds in left if seconds is not None]
    return QueueForecast(len(left), sum(known), len(left) - len(known))
