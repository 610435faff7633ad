"""`mer-agent encode` on films as people have them: each gives its faces or none, and nothing ever stops.

The sound is that of the recorded session, whose first two utterances end before three seconds. The pictures are those
of the catalogue's sample face, made larger, smaller, grey, broken.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from support import face_pictures, media_files, needs

from mer_agent import cli
from mer_agent.config import settings as config
from mer_agent.config.settings import Settings
from mer_agent.encode import encode
from mer_agent.run import replay
from mer_agent.streams.sound import audio_chunks
from mer_agent.wire.schema import EmotionMessage

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
FACE = "visual/ferplus@1"
READ_LIVE = ("text/mpnet-emotion@2", "text/mpnet-lower@1", "audio/ge2e@1", "audio/emotion@6", "audio/prosody@1", FACE)
NOBODY = np.full((144, 176, 3), 90, np.uint8)

Picture = NDArray[np.uint8]
Rows = tuple[NDArray[np.float32] | None, ...]

pytestmark = pytest.mark.real_weights


@pytest.fixture(autouse=True)
def _weights() -> None:
    needs.weights("yunet")


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    needs.weights("yunet")
    return rows(film(tmp_path_factory.mktemp("film") / "usual.mkv", faces()))


def rows(path: Path) -> Rows:
    """What the face encoder makes of the film's two utterances."""
    found = asyncio.run(encode(Settings(), path, wanted=(FACE,)))
    assert not found.failed
    assert len(found.utterances) == 2
    return found.rows[FACE]


def alike(some: Rows, others: Rows) -> bool:
    pairs = zip(some, others, strict=True)
    return all(a is not None and b is not None and np.corrcoef(a, b)[0, 1] > 0.8 for a, b in pairs)


def film(
    path: Path, pictures: Iterable[Picture], codec: str = "ffv1", pixels: str | None = None, rate: int = 10
) -> Path:
    """A film of three seconds: the session's first two utterances, and whatever is to be seen meanwhile."""
    sound = np.concatenate([chunk.samples for chunk in audio_chunks(SESSION / "audio-0.flac")])[None, : 3 * 16_000]
    return media_files.write_media(
        path, sound=sound, pictures=list(pictures), picture_rate=rate, video_codec=codec, pixels=pixels
    )


def faces(count: int = 30) -> list[Picture]:
    return [frame.image for frame in face_pictures.sample_frames()[:count]]


def enlarged(picture: Picture, width: int, height: int) -> Picture:
    """The picture as large as fits, in the middle of a grey one of this size."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner = face_pictures.scaled(picture, int(scale * picture.shape[1]), int(scale * picture.shape[0]))
    whole = np.full((height, width, 3), 90, np.uint8)
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    whole[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return whole


@pytest.mark.parametrize(
    ("name", "size", "rate", "codec", "pixels"),
    [
        ("4K", (3840, 2160), 1, "mjpeg", None),
        ("small", (160, 120), 10, "ffv1", None),
        ("upright", (1080, 1920), 2, "mjpeg", None),
        ("grey", (176, 144), 10, "ffv1", "gray"),
        ("blue first", (176, 144), 10, "ffv1", "bgr0"),
        ("deep colour", (176, 144), 10, "ffv1", "yuv420p10le"),
    ],
)
def test_the_same_face_in_any_size_and_colour(
    tmp_path: Path,
    usual: Rows,
    name: str,
    size: tuple[int, int],
    rate: int,
    codec: str,
    pixels: str | None,
) -> None:
    pictures = [enlarged(picture, *size) for picture in faces()[:: 10 // rate]]
    assert alike(rows(film(tmp_path / f"{name}.mkv", pictures, codec, pixels, rate)), usual)


def test_nobody_in_view_has_no_face(tmp_path: Path) -> None:
    assert rows(film(tmp_path / "empty.mkv", [NOBODY] * 30)) == (None, None)


def test_of_two_people_one_is_read(tmp_path: Path, usual: Rows) -> None:
    both = [np.concatenate([one, one[:, ::-1]], axis=1) for one in faces()]
    assert alike(rows(film(tmp_path / "two.mkv", both)), usual)


@pytest.mark.parametrize("what", ["the face leaves", "the pictures break off"])
def test_who_is_gone_is_absent_from_then_on(tmp_path: Path, usual: Rows, what: str) -> None:
    rest = [NOBODY] * 14 if what == "the face leaves" else []
    first, second = rows(film(tmp_path / "gone.mkv", [*faces(16), *rest]))
    assert alike((first,), usual[:1])
    assert second is None


def test_half_a_face_as_in_profile_has_a_feature_or_none(tmp_path: Path) -> None:
    halved = [picture.copy() for picture in faces()]
    for picture in halved:
        picture[:, : picture.shape[1] // 2] = 90
    assert all(row is None or np.isfinite(row).all() for row in rows(film(tmp_path / "half.mkv", halved)))


def test_damaged_pictures_cost_themselves_alone(tmp_path: Path, usual: Rows) -> None:
    path = film(tmp_path / "damaged.mkv", faces(), "mjpeg")
    content, whole = bytearray(path.read_bytes()), b"\xff\xd8\xff"  # where a JPEG begins
    starts = [at for at in range(len(content)) if content[at : at + 3] == whole]
    assert len(starts) == 30
    for start in starts[8:20:3]:
        content[start + 2 : start + 1500] = np.random.default_rng(0).bytes(1498)
    path.write_bytes(content)
    assert alike(rows(path), usual)


def test_a_clip_gives_all_that_the_live_model_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in needs.AGENT:
        needs.weights(name)
    clip, output = film(tmp_path / "clip.mp4", faces(), "mpeg4"), tmp_path / "F.safetensors"
    wanted = [part for feature in READ_LIVE for part in ("--feature", feature)]
    monkeypatch.setattr(sys, "argv", ["mer-agent", "encode", str(clip), "--output", str(output), *wanted])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code, capsys.readouterr().err
    with safe_open(output, "np") as file:
        about = json.loads(file.metadata()["features"])
        assert {feature.partition("/")[0] for feature in about} == {"text", "audio", "visual"}
        for feature in READ_LIVE:
            assert file.get_tensor(f"{feature}:present").tolist() == [True, True]
            assert np.isfinite(file.get_tensor(feature)).all()


def test_the_agent_judges_words_voice_and_face_of_a_clip(tmp_path: Path) -> None:
    for name in needs.AGENT:
        needs.weights(name)
    messages: list[EmotionMessage] = []
    settings = config.load(assignments=["model.checkpoint=live"]).settings
    asyncio.run(replay(settings, film(tmp_path / "clip.mkv", faces()), real_time=False, sinks=[messages.append]))
    final = [message for message in messages if message.kind != "partial"]
    assert len(final) == 2
    for message in final:
        assert set(message.modalities_used) == {"text", "audio", "visual"}
        assert message.degraded is None
