"""What an encoder is: it turns utterances into one named feature vector each.

A feature id names the modality, the recipe and the recipe's version: `text/mpnet@1`. Whatever changes the numbers
(other weights, other preprocessing) is a new version, and a checkpoint refuses features that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from mer_agent.errors import CheckpointError, MerError
from mer_agent.streams.types import MODALITIES, Modality, Turn, Utterance

if TYPE_CHECKING:
    from torch import Tensor

    from mer_agent.encoders.place import Place

ENTRY_POINTS = "mer_agent.encoders"
"""Group of entry points by which other packages bring encoders."""


@runtime_checkable
class Encoder(Protocol):
    """Turns a batch of utterances into features; the same utterance always gives the same vector."""

    feature: str
    """Feature id, such as `audio/ge2e@1`."""
    modality: Modality
    dimension: int

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives one float32 CPU tensor [dimension] for each utterance, None where the modality is absent.

        `past_turns` holds, for each utterance, the turns before it, oldest first; empty when nobody keeps them.
        Batch and single give the same numbers within 1e-5.
        """
        ...


def languages(encoder: Encoder) -> frozenset[str] | None:
    """Gives the codes of the languages that an encoder of words was made for, None if it doesn't say.

    An encoder says so by an attribute `languages`, such as `("en",)`; in other languages its modality is absent.
    """
    named = getattr(encoder, "languages", None)
    return None if named is None else frozenset(named)


def hears_recogniser(encoder: Encoder) -> bool:
    """Whether an encoder of sound makes more of an utterance once its words have been looked for (`types.Hearing`).

    An encoder says so by a true attribute `hears_recogniser`; before that it has to manage without.
    """
    return encoder.modality == "audio" and bool(getattr(encoder, "hears_recogniser", False))


def forget(encoder: Encoder) -> None:
    """Lets an encoder forget what it remembers of utterances so as not to encode them twice.

    An encoder that remembers any has a method `forget`.
    """
    getattr(encoder, "forget", lambda: None)()


def limit_threads(threads: int) -> None:
    """Lets torch and numpy use so many CPU threads: several models that each take all cores fight for them.

    numpy's threads also wait busily for the next product: that cost a tenth of an agent's CPU time, and gained nothing.
    """
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")


def features() -> tuple[str, ...]:
    """Gives the ids of all features that can be made here, those of installed third-party encoders among them."""
    return tuple(sorted({*_MAKERS, *_third_party()}))


def create(
    feature: str, device: str = "auto", precision: Literal["auto", "float32", "bfloat16"] = "float32"
) -> Encoder:
    """Gives the encoder that makes `feature`; its weights are loaded from the cache, never downloaded.

    `precision` is that of sentence encoders, `auto` the fastest here; what else encodes does so in float32.

    An encoder of another package is found by its entry point in the group `mer_agent.encoders`: the name is the feature
    id, the object is called with the device and gives the encoder. It can't take the place of one of ours.

    Raises:
        CheckpointError: no encoder of this version makes that feature, or a third party's encoder can't be used.
        WeightsError: its weights have not been pulled.
    """
    maker = _MAKERS.get(feature)
    if maker is not None:
        from mer_agent.encoders.place import Place

        return maker(Place.of(device, precision))
    entry = _third_party().get(feature)
    if entry is None:
        raise CheckpointError(f"no encoder makes {feature}; this version has {', '.join(features())}")
    return _create_third_party(entry, device)


def _third_party() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS) if entry.name not in _MAKERS}


def _create_third_party(entry: EntryPoint, device: str) -> Encoder:
    try:
        encoder = entry.load()(device)
    except MerError:
        raise
    except Exception as error:  # not our code: whatever it raises, the user needs to know whose it is
        raise CheckpointError(
            f"the encoder of {entry.name}, {entry.value}, can't be loaded ({error!r}); mend or uninstall its package"
        ) from error
    if not isinstance(encoder, Encoder) or encoder.feature != entry.name or encoder.modality not in MODALITIES:
        raise CheckpointError(
            f"{entry.value} is no encoder of {entry.name}: it needs that feature, a modality "
            f"({', '.join(MODALITIES)}), a dimension and encode()"
        )
    return encoder


def _mpnet(place: Place) -> Encoder:
    from mer_agent.encoders.text import TextEncoder

    return TextEncoder("mpnet", place)


def _mpnet_layers(place: Place) -> Encoder:
    from mer_agent.encoders.text import TextEncoder

    return TextEncoder("mpnet-layers", place)


def _mpnet_written(place: Place) -> Encoder:
    from mer_agent.encoders.text_emotion import WRITTEN, shared

    return shared(place, WRITTEN)


def _mpnet_heard(place: Place) -> Encoder:
    from mer_agent.encoders.text_emotion import HEARD, shared

    return shared(place, HEARD)


def _mpnet_lower(place: Place) -> Encoder:
    from mer_agent.encoders.text_lower import LowerTextEncoder

    return LowerTextEncoder(place)


def _mpnet_judged(place: Place) -> Encoder:
    from mer_agent.encoders.text_judged import JudgedTextEncoder

    return JudgedTextEncoder(place)


def _mpnet_tokens(place: Place) -> Encoder:
    from mer_agent.encoders.tokens import TokenEncoder

    return TokenEncoder(place)


def _minilm(place: Place) -> Encoder:
    from mer_agent.encoders.text import TextEncoder

    return TextEncoder("minilm", place)


def _ge2e(place: Place) -> Encoder:
    from mer_agent.encoders.voice import shared

    return shared(place)


def _voice_steps(place: Place) -> Encoder:
    from mer_agent.encoders.voice_steps import VoiceStepsEncoder

    return VoiceStepsEncoder(place)


def _whisper_steps(place: Place) -> Encoder:
    from mer_agent.encoders.whisper_steps import WhisperStepsEncoder

    return WhisperStepsEncoder()


def _voice_emotion(place: Place) -> Encoder:
    from mer_agent.encoders.voice_emotion import VoiceEmotionEncoder

    return VoiceEmotionEncoder(place)


def _overlap(place: Place) -> Encoder:
    from mer_agent.encoders.overlap import OverlapEncoder

    return OverlapEncoder(place)


def _mel(place: Place) -> Encoder:
    from mer_agent.encoders.mel import MelEncoder

    return MelEncoder()


def _prosody(place: Place) -> Encoder:
    from mer_agent.encoders.prosody import ProsodyEncoder

    return ProsodyEncoder()


def _face(place: Place) -> Encoder:
    from mer_agent.encoders.face import FaceEncoder

    return FaceEncoder(place)


def _words(place: Place) -> Encoder:
    from mer_agent.encoders.words import WordEncoder

    return WordEncoder()


_MAKERS: dict[str, Callable[[Place], Encoder]] = {
    # Each imports its encoder when it is asked for, since some bring torch and transformers with them.
    "text/mpnet@1": _mpnet,
    "text/mpnet-layers@1": _mpnet_layers,
    "text/mpnet-emotion@1": _mpnet_written,
    "text/mpnet-emotion@2": _mpnet_heard,
    "text/mpnet-lower@1": _mpnet_lower,
    "text/mpnet-judged@1": _mpnet_judged,
    "text/mpnet-tokens@1": _mpnet_tokens,
    "text/minilm@1": _minilm,
    "text/words@1": _words,
    "audio/ge2e@1": _ge2e,
    "audio/ge2e-steps@1": _voice_steps,
    "audio/emotion@6": _voice_emotion,
    "audio/mel@1": _mel,
    "audio/overlap@1": _overlap,
    "audio/prosody@1": _prosody,
    "audio/whisper-steps@1": _whisper_steps,
    "visual/ferplus@1": _face,
}
