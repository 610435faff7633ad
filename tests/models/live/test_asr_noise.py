import pytest

from mer_agent.models.live import asr_noise
from mer_agent.models.live.asr_noise import Confusions, Listener, count, plain, read

LINES = ["I don't know what you mean, Joey!", "She said that she would come.", "Oh my God!"] * 40


def test_words_are_counted_as_they_were_written():
    found = count([("I saw her, yes.", "I so her yes indeed"), ("no way", "no")])
    assert found == {
        "words": 6,
        "heard": {
            "i": {"i": 1},
            "saw": {"so": 1},
            "her": {"her": 1},
            "yes": {"yes": 1},
            "no": {"no": 1},
            "way": {"": 1},
        },
        "inserted": ["indeed"],
        "marks": {".": {"": 1}, "": {"": 1}},
    }
    assert Confusions(**found).error_rate == pytest.approx(2 / 6)


def test_nothing_is_misheard_without_errors_but_form_and_ends():
    perfect = Listener(Confusions({}, (), 100), 0)
    perfect._error_rate = 0.0
    for line, heard in zip(LINES, perfect.mishear(LINES), strict=True):
        assert heard == line or line.startswith(heard) or plain(line)[: len(plain(heard))] == plain(heard)


def test_a_conversation_loses_case_and_punctuation_as_a_whole_as_often_as_it_was_told():
    perfect = Listener(Confusions({}, (), 100), 0, bare=0.3)
    perfect._error_rate = 0.0
    bare = []
    for _ in range(300):
        heard = perfect.mishear(LINES[:6])
        forms = {text == text.lower() and text.isascii() and not set(text) & set(",!.") for text in heard}
        assert len(forms) == 1, "a recogniser gives punctuation, or it never does"
        bare += forms
    assert 0.2 < sum(bare) / len(bare) < 0.4


def test_the_shipped_errors_are_made_about_as_often_as_they_were_counted():
    confusions = read()
    assert 0.02 < confusions.error_rate < 0.5
    listener = Listener(confusions, 0)
    pairs = list(zip(LINES, listener.mishear(LINES), strict=True))
    made = Confusions(**count(pairs)).error_rate
    assert 0.2 * confusions.error_rate < made < 3 * confusions.error_rate
    assert any(said != heard for said, heard in pairs)


def test_marks_are_written_as_often_as_they_were_counted(monkeypatch):
    monkeypatch.setattr(asr_noise, "CUT", 0.0)
    marks = {"!": {".": 3, "?": 1}, "": {".": 1}, "?": {"?": 1}}
    listener = Listener(Confusions({}, (), 100, marks), 0, bare=0)
    listener._error_rate = 0.0
    heard = [text for _ in range(100) for text in listener.mishear(["No! You", "Yes, 'kay?! So... go!"])]
    assert not any("!" in text for text in heard)
    assert {text[3:] for text in heard[::2]} == {" You."}
    assert 0.15 < heard[::2].count("No? You.") / 100 < 0.35
    assert set(heard[1::2]) <= {f"Yes, 'kay{a} So. go{b}" for a in ".?" for b in ".?"}


def test_the_recogniser_writes_hardly_any_exclamation_marks():
    said = read().marks["!"]
    assert said.get("!", 0) < 0.1 * sum(said.values())


def test_the_same_seed_makes_the_same_errors():
    one, two = (Listener(read(), 3) for _ in range(2))
    assert one.mishear(LINES) == two.mishear(LINES)
    assert Listener(read(), 0).mishear([""]) == [""]
