import pytest

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
    }
    assert Confusions(**found).error_rate == pytest.approx(2 / 6)


def test_nothing_is_misheard_without_errors_but_form_and_ends():
    perfect = Listener(Confusions({}, (), 100), 0)
    perfect._error_rate = 0.0
    for line in LINES:
        heard = perfect.mishear(line)
        assert heard == line or line.startswith(heard) or plain(line)[: len(plain(heard))] == plain(heard)


def test_the_shipped_errors_are_made_about_as_often_as_they_were_counted():
    confusions = read()
    assert 0.02 < confusions.error_rate < 0.5
    listener = Listener(confusions, 0)
    pairs = [(line, listener.mishear(line)) for line in LINES]
    made = Confusions(**count(pairs)).error_rate
    assert 0.2 * confusions.error_rate < made < 3 * confusions.error_rate
    assert any(said != heard for said, heard in pairs)


def test_the_same_seed_makes_the_same_errors():
    one, two = (Listener(read(), 3) for _ in range(2))
    assert [one.mishear(line) for line in LINES] == [two.mishear(line) for line in LINES]
    assert Listener(read(), 0).mishear("") == ""
