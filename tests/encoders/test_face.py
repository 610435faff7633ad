"""The face encoder: whose face it reads, how it pools, what it does without one; mostly with a random network."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import needs
from support.face_pictures import sample, sample_frames, video

from mer_agent.encoders import base, shipped
from mer_agent.encoders.base import Encoder
from mer_agent.encoders.densenet import DenseNet, DenseShape, normalise
from mer_agent.encoders.face import FEATURE, FaceEncoder
from mer_agent.errors import CheckpointError, WeightsError
from mer_agent.streams.faces import FaceWatcher
from mer_agent.streams.media import video_frames
from mer_agent.streams.types import NS_PER_S, Face, Utterance, VideoFrame

EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
MEDIA = Path(os.environ.get("MER_DATA_DIR", "../shared/data")) / "media"
SHAPE = DenseShape(stem=4, layers=(1, 2), growth=(4, 8))
NOWHERE = np.empty((0, 0, 3), np.uint8)


def keep(folder: Path, feature: str = FEATURE) -> DenseNet:
    """Writes a random network as the encoder's weights."""
    torch.manual_seed(0)
    network = DenseNet(len(EMOTIONS), SHAPE).eval()
    recipe = {"network": asdict(SHAPE), "emotions": EMOTIONS, "temperature": 1.0}
    shipped.save(
        folder, "face", network.state_dict(), feature=feature, recipe=recipe, data="", terms="", figures={}, record={}
    )
    return network


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DenseNet]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, keep(folder)


@pytest.fixture
def encoder(trained: tuple[Path, DenseNet], monkeypatch: pytest.MonkeyPatch) -> FaceEncoder:
    """Without a detector: faces are in the frames already."""
    monkeypatch.setattr("mer_agent.encoders.face.FaceWatcher", lambda folder: _Blind())
    torch.set_num_threads(1)
    return FaceEncoder("cpu", trained[0], Path())


class _Blind:
    def forget(self) -> None:
        pass

    def see(self, frame: VideoFrame) -> VideoFrame:
        return replace(frame, faces=())


def crop(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (48, 48)).astype(np.uint8)


def face(seed: int, track: int = 0, quality: float = 1.0, motion: float | None = 0.1) -> Face:
    return Face(track, crop(seed), (0.1, 0.1, 0.3, 0.4), quality, motion)


def utterance(*frames: tuple[Face, ...]) -> Utterance:
    pictures = [VideoFrame(NOWHERE, n * NS_PER_S // 10, n, faces=faces) for n, faces in enumerate(frames)]
    return Utterance("u", None, 0, NS_PER_S, frames=tuple(pictures))


def features(network: DenseNet, *seeds: int) -> torch.Tensor:
    crops = torch.from_numpy(np.stack([crop(seed) for seed in seeds])).unsqueeze(1)
    with torch.no_grad():
        return network.features(normalise(crops))


def test_it_is_an_encoder_that_gives_vectors_on_the_cpu(encoder: FaceEncoder) -> None:
    (found,) = encoder.encode([utterance((face(0),))])
    assert isinstance(encoder, Encoder)
    assert found is not None
    assert (found.shape, found.dtype, found.device.type) == ((encoder.dimension,), torch.float32, "cpu")
    assert not found.requires_grad
    assert found.isfinite().all()


def test_without_a_face_there_is_no_feature(encoder: FaceEncoder) -> None:
    blind = Utterance("u", None, 0, NS_PER_S, frames=(VideoFrame(NOWHERE, 0, 0),))
    assert encoder.encode([utterance(), utterance(()), blind]) == [None, None, None]
    assert encoder.encode([]) == []


def test_it_gives_what_the_network_sees(encoder: FaceEncoder, trained: tuple[Path, DenseNet]) -> None:
    (reading,) = encoder.read([utterance((face(3),))])
    assert reading is not None
    expected = features(trained[1], 3)[0]
    assert torch.allclose(reading.feature, expected, atol=1e-5)
    with torch.no_grad():
        emotions = trained[1].head(expected).softmax(0).tolist()
    assert list(reading.emotions) == list(EMOTIONS)
    assert list(reading.emotions.values()) == pytest.approx(emotions, abs=1e-5)


def test_a_batch_gives_what_each_gives_alone(encoder: FaceEncoder) -> None:
    several = [utterance((face(0),), (face(1),)), utterance(), utterance((face(2, 0), face(3, 1)))]
    together = encoder.encode(several)
    for one, found in zip(several, together, strict=True):
        (alone,) = encoder.encode([one])
        assert (found is None) == (alone is None)
        if found is not None and alone is not None:
            assert torch.allclose(found, alone, atol=1e-5)


def test_good_crops_weigh_more_by_the_square_of_their_quality(
    encoder: FaceEncoder, trained: tuple[Path, DenseNet]
) -> None:
    (found,) = encoder.encode([utterance((face(0, quality=1.0),), (face(1, quality=0.5),))])
    good, poor = features(trained[1], 0, 1)
    assert found is not None
    assert torch.allclose(found, 0.8 * good + 0.2 * poor, atol=1e-5)


def test_crops_without_any_quality_still_count(encoder: FaceEncoder) -> None:
    (found,) = encoder.encode([utterance((face(0, quality=0.0),))])
    assert found is not None
    assert found.isfinite().all()


def test_of_two_faces_the_one_that_speaks_is_read(encoder: FaceEncoder, trained: tuple[Path, DenseNet]) -> None:
    both = (face(0, track=0, motion=0.01), face(1, track=1, motion=0.12))
    (reading,) = encoder.read([utterance(*[both] * 5)])
    assert reading is not None
    assert torch.allclose(reading.feature, features(trained[1], 1)[0], atol=1e-5)
    assert reading.seen.track == 1
    assert [other.track for other in reading.others] == [0]


def test_a_minute_of_faces_costs_no_more_than_48_crops(encoder: FaceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    network = encoder._network.features
    monkeypatch.setattr(encoder._network, "features", lambda faces: (sizes.append(len(faces)), network(faces))[1])
    encoder.encode([utterance(*[(face(n),) for n in range(600)])])
    assert sum(sizes) <= 48


def test_weights_of_another_feature_are_refused(tmp_path: Path) -> None:
    keep(tmp_path, feature="visual/ferplus@0")
    with pytest.raises(WeightsError, match="visual/ferplus@0"):
        FaceEncoder("cpu", tmp_path, Path())


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    keep(tmp_path)
    weights = tmp_path / "face.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsError, match="differs from its card"):
        FaceEncoder("cpu", tmp_path, Path())


def test_a_card_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    keep(tmp_path)
    card = tmp_path / "face.json"
    card.write_text(card.read_text().replace('"stem": 4', '"stem": 5'))
    with pytest.raises(WeightsError, match="does not fit its card"):
        FaceEncoder("cpu", tmp_path, Path())


def test_without_the_detector_the_error_names_the_command(trained: tuple[Path, DenseNet], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="mer-agent weights pull yunet"):
        FaceEncoder("cpu", trained[0], tmp_path)


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(CheckpointError, match="visual/ferplus@99"):
        base.create("visual/ferplus@99")


@pytest.fixture(scope="module")
def seeing(trained: tuple[Path, DenseNet]) -> FaceEncoder:
    """With the detector."""
    torch.set_num_threads(1)
    return FaceEncoder("cpu", trained[0], needs.weights("yunet"))


@pytest.mark.real_weights
class TestRealFaces:
    def test_pictures_are_looked_at_now_if_they_were_not_before(self, seeing: FaceEncoder) -> None:
        frames = sample_frames()[:10]
        watcher = FaceWatcher(needs.weights("yunet"))
        looked_at = tuple(watcher.see(frame) for frame in frames)
        late, early = seeing.encode([Utterance("u", None, 0, NS_PER_S, frames=those) for those in (frames, looked_at)])
        assert late is not None
        assert early is not None
        assert torch.allclose(late, early, atol=1e-5)

    def test_what_was_seen_before_changes_nothing(self, seeing: FaceEncoder) -> None:
        one = Utterance("u", None, 0, NS_PER_S, frames=sample_frames()[:6])
        other = Utterance("u", None, 0, NS_PER_S, frames=sample_frames()[20:26])
        (first,), _, (again,) = seeing.encode([one]), seeing.encode([other]), seeing.encode([one])
        assert first is not None
        assert again is not None
        assert torch.equal(first, again)

    def test_two_people_are_reported(self, seeing: FaceEncoder) -> None:
        both = np.concatenate([sample(), sample()], axis=1)
        (reading,) = seeing.read([Utterance("u", None, 0, NS_PER_S, frames=tuple(video(both, both, both)))])
        assert reading is not None
        assert len(reading.others) == 1
        assert reading.seen.talking + reading.others[0].talking == pytest.approx(1)

    @pytest.mark.skipif(not MEDIA.is_dir(), reason="MER_DATA_DIR holds no media")
    def test_who_talks_in_a_film_is_told_from_who_listens(self, seeing: FaceEncoder) -> None:
        # A man talks; after four seconds the picture cuts to two friends who listen, and then back.
        frames = tuple(video_frames(MEDIA / "meld_test_dia244_utt6.mp4", rate_hz=10))[:65]
        (reading,) = seeing.read([Utterance("u", None, 0, frames[-1].captured_ns, frames=frames)])
        assert reading is not None
        cut_s = (4.0, 5.0)
        for listener in (reading.seen, *reading.others):
            within = [cut_s[0] < at_ns / NS_PER_S < cut_s[1] for at_ns, _ in listener.sightings]
            if any(within):
                assert listener.mouth_motion < 0.5 * reading.seen.mouth_motion
        assert not any(cut_s[0] < at_ns / NS_PER_S < cut_s[1] for at_ns, _ in reading.seen.sightings)


@pytest.mark.real_weights
class TestShipped:
    @pytest.fixture
    def shipped_encoder(self) -> FaceEncoder:
        torch.set_num_threads(1)
        needs.weights("yunet")
        encoder = base.create(FEATURE, "cpu")
        assert isinstance(encoder, FaceEncoder)
        return encoder

    def test_it_is_small_and_says_what_it_is(self, shipped_encoder: FaceEncoder) -> None:
        card = shipped.read_card("face")
        assert shipped_encoder.dimension == 512
        assert (shipped.FOLDER / "face.safetensors").stat().st_size < 5_000_000
        assert card.feature == FEATURE
        assert card.figures["test"]["n"] == 3153
        assert card.figures["test"]["accuracy"] >= 80
        assert "research" in card.terms

    def test_a_real_clip_is_read_and_a_blank_one_is_not(self, shipped_encoder: FaceEncoder) -> None:
        frames = sample_frames()[:10]
        seen, blind = shipped_encoder.read(
            [
                Utterance("u", None, 0, NS_PER_S, frames=frames),
                Utterance("v", None, 0, NS_PER_S, frames=tuple(video(np.zeros((90, 160, 3), np.uint8)))),
            ]
        )
        assert seen is not None
        assert blind is None
        assert sum(seen.emotions.values()) == pytest.approx(1, abs=1e-5)
        assert seen.feature.shape == (512,)

    @pytest.mark.skipif(not MEDIA.is_dir(), reason="MER_DATA_DIR holds no media")
    def test_a_woman_who_smiles_while_she_talks_is_happier_than_one_who_argues(
        self, shipped_encoder: FaceEncoder
    ) -> None:
        happiness = []
        for name in ("hdtf_WDA_KatieHill_000.mp4", "meld_test_dia169_utt6.mp4"):
            frames = tuple(video_frames(MEDIA / name, rate_hz=5))[:15]
            (reading,) = shipped_encoder.read([Utterance("u", None, 0, frames[-1].captured_ns, frames=frames)])
            assert reading is not None
            happiness.append(reading.emotions["happiness"])
        assert happiness[0] > happiness[1]
