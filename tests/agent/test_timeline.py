from pathlib import Path

from lxml import etree
from support.messages import message

from mer_agent import palette, timeline
from mer_agent.exports import Judged, read

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
SVG = "{http://www.w3.org/2000/svg}"


def fills(picture: bytes) -> set[str]:
    styles = [element.get("style", "") for element in etree.fromstring(picture).iter(f"{SVG}path")]
    return {style.split("fill: ")[1][:7] for style in styles if "fill: #" in style}


def test_the_picture_has_the_colours_of_what_was_felt_and_is_always_the_same() -> None:
    judged = read(SESSION)
    picture = timeline.draw(judged, "svg")
    assert set(palette.colours(judged.labels).values()) <= fills(picture)
    assert timeline.draw(judged, "svg") == picture
    assert len(picture) < 200_000


def test_a_png_is_one() -> None:
    assert timeline.draw(read(SESSION), "png").startswith(b"\x89PNG")


def test_hours_are_broken_into_rows_of_a_bounded_number() -> None:
    hour = tuple(
        message(number).model_copy(update={"start_ns": number * 10**10, "end_ns": number * 10**10 + 9 * 10**9})
        for number in range(360)
    )
    picture = etree.fromstring(timeline.draw(Judged("s1", hour, {}), "svg"))
    axes = [group for group in picture.iter(f"{SVG}g") if group.get("id", "").startswith("axes_")]
    assert len(axes) == timeline.ROWS


def test_what_could_not_be_judged_is_an_empty_box() -> None:
    failed = message(1, distribution={}, label=None, confidence=0.0, degraded="the model failed")
    assert b"<svg" in timeline.draw(Judged("s1", (failed,), {}), "svg")
