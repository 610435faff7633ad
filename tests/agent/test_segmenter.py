import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import needs
from support.streams_fakes import LoudnessVad, ScriptedVad, bursts, chunked

from mer_agent.config.settings import SegmenterSettings
from mer_agent.segmenter import Segmenter, SpeechCutter
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.types import AudioChunk, Segment
from mer_agent.streams.vad import SileroVad

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
FRAME = 640  # 40 ms: then its ends are laid where they are anyway
FRAME_NS = 40_000_000


def frames_of(segment: Segment) -> list[int]:
    """Numbers of the frames in a segment's sound, made by `cut`."""
    return [int(value) for value in segment.audio[::FRAME]]


def speech_of(segment: Segment) -> list[int]:
    """Numbers of the frames between a segment's start and end."""
    return list(range(segment.start_ns // FRAME_NS, segment.end_ns // FRAME_NS))


def cut(probabilities: list[float], rules: SegmenterSettings, breaks: frozenset[int] = frozenset()) -> list[Segment]:
    """Runs the segmenter over frames whose samples are their own numbers."""
    segmenter = Segmenter(rules, frame_samples=FRAME)
    segments = []
    for number, probability in enumerate(probabilities):
        samples = np.full(FRAME, number, np.float32)
        segments += segmenter.push(probability, samples, number * FRAME_NS, number in breaks)
    return segments + segmenter.finish()


RULES = SegmenterSettings(
    onset_ms=80, hangover_ms=120, longest_ms=1240, padding_ms=80, threshold=0.5, exit_threshold=0.3, min_speech_ms=80
)


def test_an_utterance_lasts_from_its_first_to_its_last_voiced_frame_and_has_room_around() -> None:
    (segment,) = cut([0.0] * 5 + [0.9] * 4 + [0.0] * 8, RULES)
    assert speech_of(segment) == [5, 6, 7, 8]
    assert frames_of(segment) == [3, 4, 5, 6, 7, 8, 9, 10]
    assert segment.audio_start_ns == 3 * FRAME_NS
    assert segment.declared_ns == 12 * FRAME_NS  # 120 ms of silence after the last voiced frame
    assert segment.closed_by == "pause"


def test_a_soft_frame_goes_on_but_does_not_begin() -> None:
    assert cut([0.4] * 10, RULES) == []
    (segment,) = cut([0.6, 0.6, 0.4, 0.4, 0.2, 0.2, 0.4, 0.2, 0.2], RULES)
    assert speech_of(segment) == [0, 1, 2, 3]


def test_a_short_pause_is_part_of_the_utterance() -> None:
    (segment,) = cut([0.9, 0.9, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0], RULES)
    assert speech_of(segment) == [0, 1, 2, 3, 4]


def test_a_single_frame_is_no_onset_and_short_speech_is_dropped() -> None:
    assert cut([0.0, 0.9, 0.0] * 9, RULES) == []
    assert cut([0.0, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0], RULES.model_copy(update={"min_speech_ms": 120})) == []


def test_neighbours_share_no_sample() -> None:
    first, second = cut([0.9] * 3 + [0.0] * 3 + [0.9] * 3 + [0.0] * 9, RULES)
    assert frames_of(first) == [0, 1, 2, 3, 4]
    assert frames_of(second) == [5, 6, 7, 8, 9, 10]


def test_long_speech_is_cut_where_it_was_least_likely() -> None:
    rules = RULES.model_copy(update={"longest_ms": 1240})  # 31 frames
    probabilities = [0.9] * 40
    probabilities[10] = 0.31  # too long ago
    probabilities[25] = 0.6
    first, second = cut(probabilities, rules)
    assert first.closed_by == "longest"
    assert speech_of(first) == list(range(26))
    assert speech_of(second) == list(range(26, 40))
    assert frames_of(first) + frames_of(second) == list(range(40))
    assert first.declared_ns == 32 * FRAME_NS
    assert second.closed_by == "end"


def test_a_cut_inside_a_pause_leaves_the_pause_out_of_the_speech() -> None:
    probabilities = [0.9] * 27 + [0.1, 0.0] + [0.9] * 20
    first, second = cut(probabilities, RULES)
    assert speech_of(first) == list(range(27))
    assert speech_of(second) == list(range(29, 49))
    assert frames_of(first) + frames_of(second) == list(range(49))


def test_what_follows_a_cut_is_kept_however_short_it_is() -> None:
    rules = RULES.model_copy(update={"min_speech_ms": 400})
    probabilities = [0.9] * 32 + [0.0] * 9
    first, second = cut(probabilities, rules)
    assert speech_of(first) + speech_of(second) == list(range(32))
    assert len(speech_of(second)) < 10


def test_the_end_of_the_stream_ends_the_utterance() -> None:
    (segment,) = cut([0.0] * 3 + [0.9] * 3 + [0.0], RULES)
    assert segment.closed_by == "end"
    assert speech_of(segment) == [3, 4, 5]
    assert frames_of(segment) == [1, 2, 3, 4, 5, 6]


def test_a_discontinuity_ends_the_utterance_and_nothing_reaches_over_it() -> None:
    first, second = cut([0.9] * 8, RULES, breaks=frozenset({4}))
    assert (frames_of(first), first.closed_by) == ([0, 1, 2, 3], "end")
    assert frames_of(second) == [4, 5, 6, 7]


def test_a_detector_that_gives_no_number_hears_silence() -> None:
    assert cut([float("nan")] * 20, RULES) == []


def test_speaking_tells_whether_an_utterance_is_open() -> None:
    segmenter = Segmenter(RULES, frame_samples=FRAME)
    assert not segmenter.speaking
    for number in range(2):
        segmenter.push(0.9, np.zeros(FRAME, np.float32), number * FRAME_NS)
    assert segmenter.speaking
    segmenter.finish()
    assert not segmenter.speaking


def test_memory_is_bounded() -> None:
    segmenter = Segmenter(RULES, frame_samples=FRAME)
    for number in range(5000):
        segmenter.push((number % 50) / 50, np.zeros(FRAME, np.float32), number * FRAME_NS)
        assert len(segmenter._heard) <= 31 + 1 + 3 + 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 1.0),
        ("exit_threshold", 0.6),
        ("exit_threshold", 0.0),
        ("hangover_ms", -1),
        ("onset_ms", 30_000),
        ("longest_ms", 100),
        ("longest_ms", 60_000),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        SegmenterSettings(**{name: value})


def voiced_frames(probabilities: list[float], rules: SegmenterSettings) -> list[bool]:
    voiced, answer = False, []
    for probability in probabilities:
        voiced = probability >= (rules.exit_threshold if voiced else rules.threshold)
        answer.append(voiced)
    return answer


@settings(deadline=None, max_examples=300)
@given(
    runs=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 60)), max_size=25),
    hangover=st.integers(1, 12),
    padding=st.integers(0, 12),
    longest=st.integers(32, 70),
    onset=st.integers(1, 4),
)
def test_every_voiced_frame_is_in_exactly_one_segment(
    runs: list[tuple[float, int]], hangover: int, padding: int, longest: int, onset: int
) -> None:
    rules = SegmenterSettings(
        onset_ms=40 * onset,
        hangover_ms=40 * hangover,
        longest_ms=40 * longest,
        padding_ms=40 * padding,
        threshold=0.5,
        exit_threshold=0.3,
        min_speech_ms=0,
    )
    wobble = itertools.cycle([0.0, 0.013, -0.017, 0.009])
    probabilities = [value + next(wobble) for value, count in runs for _ in range(count)]
    segments = cut(probabilities, rules)
    voiced = voiced_frames(probabilities, rules)

    sound = [number for segment in segments for number in frames_of(segment)]
    assert sound == sorted(set(sound))  # in order, no sample twice
    speech = [number for segment in segments for number in speech_of(segment)]
    assert speech == sorted(set(speech))
    inside = set(speech)
    for number, is_voiced in enumerate(voiced):
        if is_voiced and number not in inside:  # only what was too short to be an onset may be left out
            first = last = number
            while first > 0 and voiced[first - 1]:
                first -= 1
            while last + 1 < len(voiced) and voiced[last + 1]:
                last += 1
            assert last - first + 1 < onset
    for segment in segments:
        heard, spoken = frames_of(segment), speech_of(segment)
        assert heard == list(range(heard[0], heard[-1] + 1))  # no hole
        assert segment.audio_start_ns == heard[0] * FRAME_NS
        assert set(spoken) <= set(heard)
        assert voiced[spoken[0]]
        assert voiced[spoken[-1]]
        assert len(spoken) <= longest
        assert heard[-1] - spoken[-1] <= max(padding, hangover)
        assert segment.declared_ns >= segment.end_ns
    assert [segment.closed_by for segment in segments[:-1]].count("end") == 0


@settings(deadline=None, max_examples=60)
@given(
    pattern=st.lists(st.tuples(st.floats(0.05, 1.5), st.booleans()), min_size=1, max_size=8),
    sizes=st.lists(st.integers(1, 4000), max_size=30),
)
def test_segments_do_not_depend_on_how_the_sound_arrives(pattern: list[tuple[float, bool]], sizes: list[int]) -> None:
    sound = bursts(pattern)

    def run(chunks: list[AudioChunk]) -> list[Segment]:
        cutter = SpeechCutter(LoudnessVad)
        return [segment for chunk in chunks for segment in cutter.push(chunk)] + cutter.finish()

    whole, parts = run(chunked(sound, [])), run(chunked(sound, sizes))
    assert len(whole) == len(parts)
    for one, other in zip(whole, parts, strict=True):
        assert replace(one, audio=sound) == replace(other, audio=sound)
        np.testing.assert_array_equal(one.audio, other.audio)
        start = one.audio_start_ns // 62_500
        np.testing.assert_array_equal(one.audio, sound[start : start + len(one.audio)])


def test_two_sources_are_cut_apart() -> None:
    loud, soft = bursts([(1.0, True), (1.0, False)]), bursts([(1.0, False), (1.0, True)])
    cutter = SpeechCutter(LoudnessVad)
    segments = []
    pairs = zip(chunked(loud, [512] * 62, "audio-0"), chunked(soft, [512] * 62, "audio-1"), strict=True)
    for pair in pairs:
        for chunk in pair:
            segments += cutter.push(chunk)
    segments += cutter.finish()
    assert [(segment.source, segment.start_ns // 1_000_000_000) for segment in segments] == [
        ("audio-0", 0),
        ("audio-1", 1),
    ]
    assert segments[1].start_ns == 1_000_000_000


def test_the_detector_forgets_at_a_break() -> None:
    detectors: list[ScriptedVad] = []

    def new_stream() -> ScriptedVad:
        detectors.append(ScriptedVad([0.9]))
        return detectors[-1]

    cutter = SpeechCutter(new_stream)
    sound = np.zeros(FRAME * 4, np.float32)
    cutter.push(AudioChunk(sound, 0, 0))
    (segment,) = cutter.push(AudioChunk(sound, 10**9, 1, discontinuity=True))
    assert [detector.resets for detector in detectors] == [1]
    assert (segment.closed_by, segment.end_ns) == ("end", 4 * FRAME_NS)


def test_the_recorded_session_is_cut_between_its_turns() -> None:
    from mer_agent.streams.session import read_words

    cutter = SpeechCutter(SileroVad().stream)
    segments = [s for chunk in audio_chunks(SESSION / "audio-0.flac") for s in cutter.push(chunk)] + cutter.finish()
    turns = read_words(SESSION)
    touched = []
    for segment in segments:
        (turn,) = [turn for turn in turns if turn.start_ns < segment.end_ns and segment.start_ns < turn.end_ns]
        touched.append(turns.index(turn))
    assert touched == sorted(touched)
    assert set(touched) == set(range(len(turns)))  # no turn is missed, and no utterance spans two


def test_the_same_sound_a_little_later_is_cut_into_the_very_same_samples() -> None:
    sound = np.concatenate([chunk.samples for chunk in audio_chunks(SESSION / "audio-0.flac")])

    def cuts(late: int) -> list[Segment]:
        cutter = SpeechCutter(SileroVad().stream)
        later = np.concatenate((np.zeros(late, np.float32), sound))
        return [one for chunk in chunked(later, [512] * 1000) for one in cutter.push(chunk)] + cutter.finish()

    once = cuts(0)
    same = 0
    for late in (37, 96, 352):
        again = cuts(late)
        assert len(again) == len(once)
        for one, other in zip(once, again, strict=True):
            moved = other.audio_start_ns // 62_500 - late - one.audio_start_ns // 62_500
            assert moved % 640 == 0
            assert (len(one.audio) - len(other.audio)) % 640 == 0
            same += np.array_equal(one.audio, other.audio)
    assert same >= 0.8 * 3 * len(once), f"{same} of {3 * len(once)}"


def test_what_a_late_detector_says_is_dated_back() -> None:
    def run(late: int) -> Segment:
        segmenter = Segmenter(RULES, frame_samples=FRAME, late_samples=late * FRAME)
        heard = [False] * (10 + late) + [True] * 20 + [False] * 20
        found = []
        for number, loud in enumerate(heard):
            sound = np.full(FRAME, number, np.float32)
            found += segmenter.push(0.9 if loud else 0.0, sound, number * FRAME_NS)
        (segment,) = found
        return segment

    once, late = run(0), run(2)
    assert (late.start_ns, late.end_ns) == (once.start_ns, once.end_ns)
    assert frames_of(late) == frames_of(once)
    assert late.declared_ns == once.declared_ns + 2 * FRAME_NS
    segmenter = Segmenter(RULES, frame_samples=FRAME, late_samples=2 * FRAME)
    for number in range(9):
        segmenter.push(0.9, np.zeros(FRAME, np.float32), number * FRAME_NS)
    (cut_off,) = segmenter.finish()
    assert speech_of(cut_off) == list(range(9)), "nobody knows yet that it is over"


def test_nothing_of_the_speech_is_left_out_to_lay_a_sound_by_itself() -> None:
    rules = RULES.model_copy(update={"padding_ms": 0})
    segmenter = Segmenter(rules, frame_samples=100)
    sound = np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32)
    segments = [
        one
        for at in range(0, 16_000, 100)
        for one in segmenter.push(0.9 if 3000 <= at < 9100 else 0.0, sound[at : at + 100], at * 62_500)
    ]
    (segment,) = segments
    np.testing.assert_array_equal(segment.audio, sound[3000:9100])


@pytest.mark.real_weights
def test_the_sample_conversation_gives_at_least_eight_utterances() -> None:
    path = needs.weights("sample-conversation") / "endgame_nagg_nell.wav"
    cutter = SpeechCutter(SileroVad().stream)
    segments = [segment for chunk in audio_chunks(path) for segment in cutter.push(chunk)] + cutter.finish()
    assert 8 <= len(segments) <= 20
    assert sum(segment.end_ns - segment.start_ns for segment in segments) > 15e9


def test_a_microphone_that_goes_ends_the_utterance_that_was_open() -> None:
    cutter = SpeechCutter(LoudnessVad)
    chunks = chunked(bursts([(0.5, False), (1.0, True)]), [512] * 100)
    assert [segment for chunk in chunks for segment in cutter.push(chunk)] == []
    (segment,) = cutter.push(AudioChunk(np.zeros(0, np.float32), chunks[-1].end_ns, -1, discontinuity=True))
    assert segment.closed_by == "end"
    assert segment.end_ns - segment.start_ns == pytest.approx(1e9, abs=64e6)
    later = [replace(chunk, start_ns=chunk.start_ns + 60_000_000_000) for chunk in chunks]
    assert [segment for chunk in later for segment in cutter.push(chunk)] == []
    (segment,) = cutter.finish()
    assert segment.start_ns > 60_000_000_000
