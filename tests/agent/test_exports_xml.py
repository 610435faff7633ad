"""pympi reads ELAN's documents; EmotionML is held against rules written after W3C's recommendation.

No reader of EmotionML and no package with its schema was found.
"""

from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from pympi import Elan
from support.messages import message

from mer_agent.exports import Judged, read, who
from mer_agent.exports_xml import CHANNELS, EMOTIONML, PAD, to_eaf, to_emotionml
from mer_agent.wire.schema import EmotionMessage

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
E = f"{{{EMOTIONML}}}"


def said(number: int, **changes: Any) -> EmotionMessage:
    return message(number).model_copy(update=changes)


@pytest.fixture
def judged() -> Judged:
    return read(SESSION)


@pytest.fixture
def awkward() -> Judged:
    """Names, words and times that XML and ELAN don't like."""
    odd = said(1, text="a\x00 < b & \ud800c", speaker_name="Ann & <Bob>", start_ns=10**9, end_ns=2 * 10**9)
    within = said(2, speaker_name="Ann & <Bob>", start_ns=1_500_000_000, end_ns=1_500_000_000, utterance="2 b:c")
    failed = said(3, distribution={}, label=None, confidence=0.0, degraded="the model failed", text=None)
    return Judged("s1", (odd, within, failed), {})


def elan(judged: Judged, folder: Path) -> Any:
    file = folder / "session.eaf"
    file.write_text(to_eaf(judged), encoding="utf-8")
    return Elan.Eaf(str(file))


def test_elan_finds_a_tier_of_words_and_one_of_emotions_for_each_speaker(judged: Judged, tmp_path: Path) -> None:
    document = elan(judged, tmp_path)
    assert set(document.get_tier_names()) == {
        f"{kind}@{name}" for kind in ("words", "emotion") for name in judged.speakers
    }
    for name in judged.speakers:
        mine = [each for each in judged.utterances if who(each) == name]
        words = document.get_annotation_data_for_tier(f"words@{name}")
        assert [(start, end, text) for start, end, text in words] == [
            (each.start_ns // 10**6, each.end_ns // 10**6, each.text) for each in mine
        ]
        emotions = document.get_ref_annotation_data_for_tier(f"emotion@{name}")
        assert [emotion[2] for emotion in emotions] == [f"{each.label} {each.confidence:.2f}" for each in mine]


def test_elan_gets_no_overlap_and_nothing_without_length(awkward: Judged, tmp_path: Path) -> None:
    words = elan(awkward, tmp_path).get_annotation_data_for_tier("words@Ann & <Bob>")
    assert [(start, end) for start, end, _ in words] == [(1000, 2000), (2000, 2001)]
    assert words[0][2] == "a  < b &  c"


# Of the recommendation of 22 May 2014: what may stand in each element, and its attributes.
CHILDREN = {
    "emotionml": {"vocabulary", "info", "emotion"},
    "vocabulary": {"info", "item"},
    "item": {"info"},
    "emotion": {"category", "dimension", "appraisal", "action-tendency", "reference", "info"},
    "category": {"trace"},
    "dimension": {"trace"},
}
SETS = {"category-set", "dimension-set", "appraisal-set", "action-tendency-set"}
ATTRIBUTES = {
    "emotionml": {"version"} | SETS,
    "vocabulary": {"type", "id"},
    "item": {"name"},
    "emotion": {"version", "id", "start", "end", "duration", "time-ref-uri", "expressed-through"} | SETS,
    "category": {"name", "value", "confidence"},
    "dimension": {"name", "value", "confidence"},
    "info": {"id"},
}


def check_emotionml(document: str) -> Any:
    """Asserts what the specification demands of a document."""
    root = etree.fromstring(document.encode())
    assert root.tag == f"{E}emotionml"
    assert root.get("version") == "1.0"
    vocabularies = {
        one.get("id"): [item.get("name") for item in one.iter(f"{E}item")] for one in root.iter(f"{E}vocabulary")
    }
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    assert all(etree.QName(f"{{x}}{id_}") is not None and ":" not in id_ for id_ in ids)
    for element in root.iter(etree.Element):
        if not element.tag.startswith(E):
            assert element.getparent().tag == f"{E}info", "other namespaces may stand in <info> only"
            continue
        name = element.tag.removeprefix(E)
        assert set(element.attrib) <= ATTRIBUTES[name], name
        children = [child.tag.removeprefix(E) for child in element if child.tag.startswith(E)]
        assert set(children) <= CHILDREN.get(name, set()), name
        assert children.count("info") <= 1
        if name == "vocabulary":
            assert element.get("type") in ("category", "dimension", "appraisal", "action-tendency")
            assert children
        if name == "emotion":
            assert {"category", "dimension", "appraisal", "action-tendency"} & set(children), "an emotion of nothing"
            assert int(element.get("end")) >= int(element.get("start")) >= 0
            categories = [child.get("name") for child in element.iter(f"{E}category")]
            assert len(categories) == len(set(categories))
            assert not categories or set(categories) <= set(vocabularies[element.get("category-set").removeprefix("#")])
            dimensions = {child.get("name") for child in element.iter(f"{E}dimension")}
            assert not dimensions or (element.get("dimension-set") == PAD and dimensions <= {"pleasure", "arousal"})
        if name == "dimension":
            assert (element.get("value") is not None) != bool(children), "a value or a trace"
        for bounded in ("value", "confidence"):
            assert 0 <= float(element.get(bounded, 0)) <= 1
    return root


def test_emotionml_is_as_the_specification_wants_it(judged: Judged) -> None:
    root = check_emotionml(to_emotionml(judged))
    emotions = root.findall(f"{E}emotion")
    assert [emotion.get("id") for emotion in emotions] == [each.utterance for each in judged.utterances]
    for emotion, wanted in zip(emotions, judged.utterances, strict=True):
        shares = {one.get("name"): float(one.get("confidence")) for one in emotion.iter(f"{E}category")}
        assert shares == pytest.approx(dict(wanted.distribution), abs=1e-6)
        assert "".join(emotion.itertext()).strip() == wanted.text
        channels = (emotion.get("expressed-through") or "").split()
        assert channels == [CHANNELS[used] for used in wanted.modalities_used]
        assert int(emotion.get("end")) - int(emotion.get("start")) == (wanted.end_ns - wanted.start_ns) // 10**6


def test_emotionml_can_say_anything_and_leaves_out_what_could_not_be_judged(awkward: Judged) -> None:
    root = check_emotionml(to_emotionml(awkward))
    assert [emotion.get("id") for emotion in root.findall(f"{E}emotion")] == [awkward.utterances[0].utterance, "_2-b-c"]


def test_valence_and_arousal_become_pleasure_and_arousal() -> None:
    felt = said(1, valence=-0.5, arousal=1.0)
    root = check_emotionml(to_emotionml(Judged("s1", (felt,), {})))
    values = {one.get("name"): float(one.get("value")) for one in root.iter(f"{E}dimension")}
    assert values == {"pleasure": 0.25, "arousal": 1.0}
