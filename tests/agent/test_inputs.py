"""What a session hears: names that tell nobody's, microphones and their speakers, errors that say what to do."""

from pathlib import Path

from mer_agent.inputs import _anonymous
from mer_agent.schema import Topics


def test_the_session_is_named_alike_each_time_and_not_after_the_file() -> None:
    first, again = (_anonymous(Path(name)) for name in ("/a/Anna's interview.wav", "/b/Anna's interview.wav"))
    assert first == again == Topics(session=first).session
    assert "anna" not in first
    assert _anonymous(Path("日本語.wav")) != first
