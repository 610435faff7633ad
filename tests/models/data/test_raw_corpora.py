"""The raw corpora, as look-alike folders whose clips PyAV makes; encoded by a scripted encoder."""

from __future__ import annotations

import pytest
import torch
from support.media_files import tone, write_media, write_sound

from mer_agent.encoders.prosody import DESCRIPTORS, ProsodyEncoder
from mer_agent.errors import DataError
from mer_agent.models.data.converted import load_converted, write_table
from mer_agent.models.data.datasets import IEMOCAP_LABELS
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.data.raw_corpora import read_iemocap_release, read_meld_raw

EVALUATION = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[1.0000 - 3.5000]\t{name}_F000\tang\t[2.5000, 3.5000, 4.0000]
C-E2:\tAnger;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[1.2000 - 1.7000]\t{name}_M000\tneu\t[2.5000, 2.5000, 2.5000]
[4.0000 - 4.5000]\t{name}_M001\txxx\t[2.5000, 2.5000, 2.5000]
"""
TRANSCRIPTION = """{name}_F000 [001.0000-003.5000]: Leave me alone.
M: (laughs)
{name}_M000 [001.2000-001.7000]: Sorry?
{name}_M001 [004.0000-004.5000]: Well.
"""
SESSIONS = {"Session1": ["Ses01F_impro01", "Ses01M_impro01"], "Session5": ["Ses05M_script01_1"]}


class Scripted:
    """Gives what it was handed, as numbers: seconds of sound, pictures, letters; and remembers the turns before."""

    def __init__(self):
        self.past = {}

    def __call__(self, feature, utterances, past_turns):
        rows = []
        for utterance, turns in zip(utterances, past_turns, strict=True):
            self.past[utterance.id] = [(turn.speaker, turn.text) for turn in turns]
            if feature.startswith("text/"):
                rows.append(torch.tensor([float(len(utterance.text))]))
            elif feature.startswith("face/"):
                rows.append(torch.tensor([float(len(utterance.frames))]) if utterance.frames else None)
            else:
                sound = utterance.speech
                rows.append(None if sound is None else torch.tensor([len(sound) / 16_000, utterance.duration_s]))
        return rows


def iemocap(root):
    for session, names in SESSIONS.items():
        for folder in ("dialog/EmoEvaluation", "dialog/transcriptions"):
            (root / session / folder).mkdir(parents=True)
        for name in names:
            (root / session / "dialog/EmoEvaluation" / f"{name}.txt").write_text(EVALUATION.format(name=name))
            (root / session / "dialog/EmoEvaluation" / f"._{name}.txt").write_bytes(b"\x00\x05\x16\x07")
            (root / session / "dialog/transcriptions" / f"{name}.txt").write_text(TRANSCRIPTION.format(name=name))
            clips = root / session / "sentences/wav" / name
            clips.mkdir(parents=True)
            for who, seconds in (("F000", 2.5), ("M000", 0.5)):
                write_sound(clips / f"{name}_{who}.wav", tone(seconds), codec="pcm_s16le")
    return root


HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
CLIPS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}


def meld(root):
    for split, folder in CLIPS.items():
        (root / folder).mkdir(parents=True)
        rows = [
            f'{i},Oh,{who},joy,positive,125,{i},1,1,"00:00:0{i},000","00:00:0{i},900"'
            for i, who in ((2, "Ross"), (3, "Joey"))
        ]
        (root / f"{split}_sent_emo.csv").write_text("\n".join([HEADER, *rows]) + "\n")
        for i in (2, 3):
            path = root / folder / f"dia125_utt{i}.mp4"
            write_media(path, sound=tone(0.5 * i, 44_100), rate=44_100, codec="aac", pictures=10)
    (root / "train_splits" / "dia125_utt3.mp4").write_bytes(b"broken, as it is in the release")
    return root


def test_iemocap_is_read_and_encoded(tmp_path):
    encode = Scripted()
    table = read_iemocap_release(iemocap(tmp_path), ["text/mpnet@1", "audio/ge2e@1"], encode=encode)
    corpus = table.corpus()
    assert corpus.labels == IEMOCAP_LABELS
    assert corpus.dialogues == ("Ses01F_impro01", "Ses01M_impro01", "Ses05M_script01_1")
    assert corpus.split == ("train", "valid", "test")
    assert corpus.kind == ("improvised", "improvised", "scripted")
    train = corpus.part("train")
    assert train.names == ["Ses01F_impro01_M000", "Ses01F_impro01_F000"]  # by their ends; xxx is left out
    assert [IEMOCAP_LABELS[k] for k in train.labels] == ["neutral", "angry"]
    assert train.speakers.tolist() == [0, 1]
    assert train.affect[1].tolist() == [2.5, 3.5, 4.0]
    assert train.features["text/mpnet@1"].flatten().tolist() == [6.0, 15.0]
    torch.testing.assert_close(train.features["audio/ge2e@1"], torch.tensor([[0.5, 0.5], [2.5, 2.5]]))
    assert encode.past["Ses01F_impro01_F000"] == [(0, "Sorry?")]
    assert encode.past["Ses01F_impro01_M000"] == []


def test_a_live_encoder_hears_the_clips_and_the_result_is_kept(tmp_path):
    encoder = ProsodyEncoder()
    table = read_iemocap_release(
        iemocap(tmp_path / "raw"),
        ["audio/prosody@1"],
        encode=lambda _, utterances, past: encoder.encode(utterances, past),
    )
    write_table(table, tmp_path / "kept")
    corpus = load_converted(tmp_path / "kept", ["audio/prosody@1"], descriptors=("pitch_hz_mean", "duration_s"))
    values = corpus.part("test").features["audio/prosody@1"]
    assert table.columns == {"audio/prosody@1": DESCRIPTORS}
    torch.testing.assert_close(values, torch.tensor([[440.0, 0.5], [440.0, 2.5]]), rtol=0.01, atol=0.01)


def test_a_sentence_without_clip_keeps_its_words(tmp_path):
    root = iemocap(tmp_path)
    (root / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav").unlink()
    batch = read_iemocap_release(root, ["text/mpnet@1", "audio/ge2e@1"], encode=Scripted()).corpus().part("train")
    assert batch.present["audio/ge2e@1"].tolist() == [True, False]
    assert batch.present["text/mpnet@1"].all()


@pytest.mark.parametrize(
    ("folder", "old", "new", "message"),
    [
        ("EmoEvaluation", "\tang\t", "\t\t", "F000 has no label"),
        ("EmoEvaluation", "\tang\t", "\tmad\t", "unknown label 'mad'"),
        ("EmoEvaluation", "4.0000]", "4.0]", None),
        ("EmoEvaluation", "[2.5000, 3.5000, 4.0000]", "[2.5000, 3.5000]", "three ratings"),
        ("EmoEvaluation", "[1.0000 - 3.5000]", "[1.0000 - ]", "line 3: not"),
        ("EmoEvaluation", "[1.0000 - 3.5000]", "[9.0000 - 3.5000]", "no proper start"),
        ("transcriptions", "F000", "F009", "F000 is not in the transcriptions"),
    ],
)
def test_iemocap_broken_is_one_clear_error(tmp_path, folder, old, new, message):
    root = iemocap(tmp_path)
    path = root / "Session1/dialog" / folder / "Ses01F_impro01.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    if message is None:
        read_iemocap_release(root, ["text/mpnet@1"], encode=Scripted())
        return
    with pytest.raises(DataError, match=message):
        read_iemocap_release(root, ["text/mpnet@1"], encode=Scripted())


def test_iemocap_of_another_layout_is_refused(tmp_path):
    with pytest.raises(DataError, match="IEMOCAP_full_release"):
        read_iemocap_release(tmp_path, encode=Scripted())
    root = iemocap(tmp_path)
    (root / "Session5").rename(root / "Session4")
    with pytest.raises(DataError, match="split 'test'"):
        read_iemocap_release(root, encode=Scripted())
    (root / "Session4").rename(root / "Session5")
    (root / "Session5/dialog/transcriptions/Ses05M_script01_1.txt").unlink()
    with pytest.raises(DataError, match="transcriptions"):
        read_iemocap_release(root, encode=Scripted())


def test_a_damaged_sentence_is_an_error(tmp_path):
    root = iemocap(tmp_path)
    (root / "Session5/sentences/wav/Ses05M_script01_1/Ses05M_script01_1_F000.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match="clip of Ses05M_script01_1_F000"):
        read_iemocap_release(root, encode=Scripted())


def test_meld_is_read_and_encoded(tmp_path):
    features = ["text/mpnet@1", "audio/ge2e@1", "face/any@1"]
    corpus = read_meld_raw(meld(tmp_path), features, encode=Scripted()).corpus()
    assert corpus.labels == MELD_LABELS
    assert corpus.split == ("train", "valid", "test")
    batch = corpus.batch
    present = {feature: dict(zip(batch.names, batch.present[feature].tolist(), strict=True)) for feature in features}
    assert all(present["text/mpnet@1"].values())
    for feature in features[1:]:  # the known broken clip isn't opened
        assert [name for name, there in present[feature].items() if not there] == ["train_dia125_utt3"]
    seconds = batch.features["audio/ge2e@1"][batch.names.index("test_dia125_utt3")]
    torch.testing.assert_close(seconds, torch.tensor([1.5, 1.5]), rtol=0, atol=0.06)  # AAC pads
    assert batch.features["face/any@1"][batch.names.index("dev_dia125_utt2"), 0] == 5  # 1 s at 5 a second


def test_meld_of_another_layout_is_refused(tmp_path):
    root = meld(tmp_path)
    (root / "dev_splits_complete").rename(root / "dev")
    with pytest.raises(DataError, match=r"no folder dev_splits_complete: unpack dev\.tar\.gz"):
        read_meld_raw(root, encode=Scripted())
    (root / "dev_sent_emo.csv").unlink()
    with pytest.raises(DataError, match=r"dev\.csv"):
        read_meld_raw(root, encode=Scripted())


def test_no_clip_at_all_or_no_such_modality_is_refused(tmp_path):
    root = iemocap(tmp_path)
    with pytest.raises(DataError, match="face/any@1 is absent from every utterance"):
        read_iemocap_release(root, ["face/any@1"], encode=Scripted())
    for clip in root.rglob("*.wav"):
        clip.unlink()
    with pytest.raises(DataError, match="none of the utterances has a clip"):
        read_iemocap_release(root, encode=Scripted())
