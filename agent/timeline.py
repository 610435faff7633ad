"""A picture of a session: who felt what when, as one band for each speaker, in colours that everybody can tell apart.

Each utterance is a box as long as it lasted, filled with the shares of its distribution; the likeliest label stands
above it. A long session is broken into rows.
"""

from __future__ import annotations

import io
import math
from typing import Any, Literal

from mer_agent.errors import MissingExtraError
from mer_agent.exports import Judged, who
from mer_agent.palette import colours
from mer_agent.streams.types import NS_PER_S

ROW_S = 60.0
"""Seconds in a row, unless there would be more than `ROWS` rows."""
ROWS = 20
_INCHES = 10.0
_LETTER_IN = 0.075
"""Width of a letter above a box."""


def draw(judged: Judged, kind: Literal["svg", "png"]) -> bytes:
    """Gives the picture as a file's content; the same session always gives the same.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib: pip install 'mer-agent[train]'") from error
    end_s = max(message.end_ns for message in judged.utterances) / NS_PER_S
    first_s = math.floor(min(message.start_ns for message in judged.utterances) / NS_PER_S)
    row_s = max(min(ROW_S, end_s - first_s), (end_s - first_s) / ROWS)
    rows = max(1, math.ceil((end_s - first_s) / row_s))
    lanes = {name: at for at, name in enumerate(judged.speakers)}
    palette = colours(judged.labels)
    with matplotlib.rc_context({"svg.hashsalt": "mer-agent", "svg.fonttype": "path"}):
        figure = Figure(figsize=(_INCHES, 0.8 + rows * (0.45 + 0.5 * len(lanes))), layout="constrained")
        for row, axes in enumerate(figure.subplots(rows, 1, squeeze=False)[:, 0]):
            _row(axes, judged, lanes, palette, first_s + row * row_s, row_s)
        axes.set_xlabel("minutes:seconds")
        boxes = [Patch(facecolor=colour, label=label) for label, colour in palette.items()]
        if boxes:
            figure.legend(handles=boxes, loc="outside upper center", ncols=len(boxes), frameon=False)
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def _row(
    axes: Any, judged: Judged, lanes: dict[str, int], palette: dict[str, str], from_s: float, length_s: float
) -> None:
    """Draws `length_s` seconds of the session."""
    for message in judged.utterances:
        start_s, end_s = message.start_ns / NS_PER_S, message.end_ns / NS_PER_S
        if end_s <= from_s or start_s >= from_s + length_s:
            continue
        bottom = lanes[who(message)] + 0.35
        axes.barh(bottom, end_s - start_s, 0.6, left=start_s, align="edge", color="none", edgecolor="#444444", lw=0.5)
        for label, share in sorted(message.distribution.items(), key=lambda item: -item[1]):
            axes.barh(bottom, end_s - start_s, 0.6 * share, left=start_s, align="edge", color=palette[label], lw=0)
            bottom += 0.6 * share
        letters = int((end_s - start_s) / length_s * _INCHES * 0.9 / _LETTER_IN)
        if letters >= 2 and start_s >= from_s:
            axes.text(start_s, lanes[who(message)] + 0.32, (message.label or "?")[:letters], fontsize=7, va="bottom")
    axes.set_xlim(from_s, from_s + length_s)
    axes.set_ylim(len(lanes), 0)
    axes.set_yticks([at + 0.65 for at in lanes.values()], list(lanes))
    axes.xaxis.set_major_formatter(lambda at_s, _: f"{int(at_s) // 60}:{int(at_s) % 60:02d}")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
