"""A block for the system prompt of a language model: how the user feels, how sure that is, what to do about it.

system = PERSONA + prompt_block(stream.latest("user"), stream.mood("user"))
"""

from __future__ import annotations

from mer_agent.client import EmotionMessage, Mood

SURE = 0.5
"""Below this a label is called a guess."""
TREND = 0.3
"""A smaller change of pleasantness is called none."""

ADVICE = """\
Let this shape your tone. Don't name the emotion unless the user does, don't diagnose, and prefer the user's own words
wherever they disagree with it: the detector is often wrong."""


def prompt_block(emotion: EmotionMessage | None, mood: Mood | None = None) -> str:
    """The block, from the newest emotion and the mood; without any it says that nothing is known."""
    if emotion is None or emotion.label is None or not emotion.distribution:
        return "<user_emotion>unknown</user_emotion>"
    likely = sorted(emotion.distribution.items(), key=lambda item: -item[1])[:3]
    lines = [
        "<user_emotion>",
        f"last utterance: {emotion.label} ({'likely' if emotion.confidence >= SURE else 'a guess'}); "
        + ", ".join(f"{label} {share:.0%}" for label, share in likely),
        f"judged from: {', '.join(emotion.modalities_used) or 'nothing'}",
    ]
    if mood is not None and mood.utterances > 1:
        change = "about the same" if mood.trend is None or abs(mood.trend) < TREND else None
        change = change or ("getting better" if (mood.trend or 0.0) > 0 else "getting worse")
        lines.append(f"mood over {mood.utterances} utterances: {mood.label}, {change}")
    return "\n".join([*lines, "</user_emotion>", ADVICE])
