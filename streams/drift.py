"""Where a device's samples lie in session time, although the device counts seconds in its own way.

A sound card's 16,000 samples last a little more or less than a second (quartzes differ by up to 100 ppm: a third of a
second in an hour), and the moments at which its samples are reported are late by what the scheduler took. So neither
may be trusted alone. For each block

    offset = session time at which it was reported - samples before it / rate

Reports are late, never early, so the least offset of each second counts. The line through those of the last half minute
(least squares) is the device's drift. Stamps follow the line in small steps; where it leaves the stamps
behind by more than `JUMP_NS`, sound is missing.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from mer_agent.streams.types import NS_PER_S

JUMP_NS = 60_000_000
"""Later than this for a whole second is not lateness: samples are missing."""

_STEP_NS = 1_000_000
"""Stamps are moved by no more than this at a block, which lasts longer, so that time never runs backwards."""
_SECONDS = 30
"""How many seconds the line is drawn through."""
_LEAST_SECONDS = 10
"""With fewer there is no slope to speak of."""


class DriftClock:
    """Session time of one device's samples, in order, since it was opened.

    Attributes:
        offset_ns: session time of the device's sample 0, as its clock runs now: a block that sample n begins is
            reported at `offset_ns` + n / rate, or later.
        drift_ppm: by how much the device's clock is slower (below 0: faster) than the session's just now; 0 until
            known.
        mean_ppm: the same over all the time since the first ten seconds: the longer, the truer.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._second: int | None = None  # which second of the device the current least belongs to
        self._least_ns = 0
        self._leasts: deque[tuple[int, int]] = deque(maxlen=_SECONDS)
        self._aim_ns = 0
        self.offset_ns = 0
        self.drift_ppm = 0.0
        self.mean_ppm = 0.0
        self._settled: tuple[int, int] | None = None  # the second, and its least offset, when the line was first drawn

    def observe(self, samples: int, at_ns: int, *, lost: bool = False) -> bool:
        """Takes a report of a block of sound.

        Args:
            samples: how many samples came before the block.
            at_ns: session time at which it was reported.
            lost: the device itself says that sound is missing before this block.

        Returns:
            Whether sound is missing: then time is anchored anew at this block.
        """
        elapsed_ns = int(samples * NS_PER_S / self._rate_hz)
        offset_ns, second = at_ns - elapsed_ns, elapsed_ns // NS_PER_S
        if self._second is None or lost:
            self._anchor(second, offset_ns)
            return lost
        if second != self._second:
            if self._least_ns - self.offset_ns > JUMP_NS:
                self._anchor(second, offset_ns)
                return True
            self._leasts.append((self._second, self._least_ns))
            self._draw_line()
            self._second, self._least_ns = second, offset_ns
        self._least_ns = min(self._least_ns, offset_ns)
        if len(self._leasts) < _LEAST_SECONDS:
            self._aim_ns = min(self._aim_ns, self._least_ns)
        self.offset_ns += max(-_STEP_NS, min(_STEP_NS, self._aim_ns - self.offset_ns))
        return False

    def _anchor(self, second: int, offset_ns: int) -> None:
        self._second = second
        self._least_ns = self._aim_ns = self.offset_ns = offset_ns
        self._leasts.clear()
        self._settled = None

    def _draw_line(self) -> None:
        """Aims the offset at the least of a few seconds, or at the end of the line through many."""
        seconds, leasts = np.array(self._leasts, np.float64).T
        if len(seconds) < _LEAST_SECONDS:
            self._aim_ns = int(leasts[-1])
            return
        base = leasts[0]  # nanoseconds since the start don't fit a float's precision for ever, differences do
        slope, intercept = np.polyfit(seconds - seconds[-1], leasts - base, 1)
        self._aim_ns = int(base + intercept + slope)  # the second that begins now
        self.drift_ppm = float(slope) / 1000.0
        now, now_ns = self._leasts[-1]
        then, then_ns = self._settled = self._settled or (now, now_ns)
        if now > then:
            self.mean_ppm = (now_ns - then_ns) / 1000 / (now - then)
