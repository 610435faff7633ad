"""What a session hears: names that tell nobody's, microphones and their speakers, errors that say what to do."""

from pathlib import Path

import pytest

from mer_agent.config import settings as config
from mer_agent.errors import DeviceError, InputError
from mer_agent.health import WELL
from mer_agent.inputs import ChatInput, LiveInput, _anonymous
from mer_agent.streams import camera, microphone
from mer_agent.streams.devices import DeviceInfo
from mer_agent.streams.live import LiveSource
from mer_agent.streams.silence import Silence
from mer_agent.wire.schema import Topics


@pytest.fixture(autouse=True)
def _devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two microphones and a camera, whatever this machine has."""
    listed = [DeviceInfo(0, "Analog", "", True, 48_000.0, 2), DeviceInfo(3, "Jabra, USB", "", False, 16_000.0, 1)]
    monkeypatch.setattr(microphone, "_portaudio", lambda: None)
    monkeypatch.setattr(microphone, "_microphones", lambda sounddevice: listed)
    monkeypatch.setattr(camera, "_numbered", lambda: [DeviceInfo(0, "Webcam", "", True)])


def live(*assignments: str) -> LiveInput:
    return LiveInput(config.load(assignments=assignments).settings)


def test_one_microphone_is_everybodys_and_voices_are_told_apart() -> None:
    heard = live("microphone.device=default")
    assert heard.speakers == {}
    assert heard.title == "listening to Analog"
    assert heard.session.startswith("live-")
    assert Topics(session=heard.session).session == heard.session
    assert isinstance(heard.source(heard.clock(), lambda source, state: None), LiveSource)


def test_a_microphone_for_each_speaker_says_who_speaks() -> None:
    assert live("microphone.device=Ann=0; Bob B.=jabra").speakers == {"audio-0": "Ann", "audio-1": "Bob B."}
    assert live("microphone.device=0;3").speakers == {"audio-0": None, "audio-1": None}
    assert live("microphone.device=Ann=default").speakers == {"audio-0": "Ann"}


def test_a_name_with_a_comma_is_one_device() -> None:
    assert live("microphone.device=Jabra, USB", "camera.device=web").title == "listening to Jabra, USB, 0 Webcam"


@pytest.mark.parametrize(
    ("assignments", "error", "message"),
    [
        (["microphone.device=foo"], DeviceError, "there is no microphone 'foo'"),
        (["microphone.device=0", "camera.device=foo"], DeviceError, "there is no camera 'foo'"),
        (["camera.device=0"], InputError, "--mic default"),
        (["microphone.device=ann=0;ann=3"], InputError, "two microphones of one name: ann, ann"),
        (["microphone.device=0;analog"], InputError, "Analog is named twice"),
    ],
)
def test_what_can_t_be_heard_is_a_clear_error(assignments: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        live(*assignments)
    assert message in str(caught.value)


def test_a_stream_s_password_is_not_shown() -> None:
    heard = live("microphone.device=0", "camera.device=rtsp://ann:secret@cam/1")
    assert heard.title == "listening to Analog, rtsp://***@cam/1"


def test_the_session_is_named_alike_each_time_and_not_after_the_file() -> None:
    first, again = (_anonymous(Path(name)) for name in ("/a/Anna's interview.wav", "/b/Anna's interview.wav"))
    assert first == again == Topics(session=first).session
    assert "anna" not in first
    assert _anonymous(Path("日本語.wav")) != first


async def test_a_chat_has_no_devices_and_lasts_until_it_is_stopped() -> None:
    chat, states = ChatInput(), list[tuple[str, str]]()
    source = chat.source(chat.clock(), lambda source, state: states.append((source, state)))
    assert isinstance(source, Silence)
    assert states
    assert all(state in WELL for _, state in states)  # so that the agent says `ready`
    assert (chat.real_time, chat.live, chat.speakers) == (True, True, {})
    assert chat.session.startswith("chat-")
