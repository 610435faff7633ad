"""A session's emotions as XML: ELAN's EAF 3.0, for those who annotate speech, and W3C's EmotionML 1.0."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from mer_agent import __version__
from mer_agent.exports import Judged, who
from mer_agent.wire.schema import EmotionMessage

EMOTIONML = "http://www.w3.org/2009/10/emotionml"
PAD = "http://www.w3.org/TR/emotion-voc/xml#pad-dimensions"
OURS = "https://mer-agent.invalid/utterance"
"""Namespace of what EmotionML has no word for; it is a name, there is nothing to fetch."""

CHANNELS = {"audio": "voice", "visual": "face", "text": "text"}
"""What EmotionML calls our modalities."""


def to_eaf(judged: Judged) -> str:
    """Gives an ELAN document: for each speaker a tier of words, and one with their emotions under it."""
    document = Element(
        "ANNOTATION_DOCUMENT",
        {
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
            "AUTHOR": f"mer-agent {__version__}",
            "DATE": judged.started_at.isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
        },
    )
    SubElement(document, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    order = SubElement(document, "TIME_ORDER")
    slots = annotations = 0
    for name in judged.speakers:
        named = {"PARTICIPANT": _legal(name)}
        words = SubElement(
            document, "TIER", {**named, "LINGUISTIC_TYPE_REF": "utterance", "TIER_ID": f"words@{_legal(name)}"}
        )
        emotions = SubElement(
            document,
            "TIER",
            {
                **named,
                "LINGUISTIC_TYPE_REF": "emotion",
                "PARENT_REF": words.attrib["TIER_ID"],
                "TIER_ID": f"emotion@{_legal(name)}",
            },
        )
        done_ms = 0
        for message in judged.utterances:
            if who(message) != name:
                continue
            # Within a tier ELAN allows no overlap and nothing without length.
            start_ms = max(done_ms, message.start_ns // 1_000_000)
            done_ms = max(start_ms + 1, message.end_ns // 1_000_000)
            for at_ms in (start_ms, done_ms):
                slots += 1
                SubElement(order, "TIME_SLOT", TIME_SLOT_ID=f"ts{slots}", TIME_VALUE=str(at_ms))
            annotations += 2
            spoken = SubElement(
                SubElement(words, "ANNOTATION"),
                "ALIGNABLE_ANNOTATION",
                ANNOTATION_ID=f"a{annotations - 1}",
                TIME_SLOT_REF1=f"ts{slots - 1}",
                TIME_SLOT_REF2=f"ts{slots}",
            )
            SubElement(spoken, "ANNOTATION_VALUE").text = _legal(message.text or "")
            felt = SubElement(
                SubElement(emotions, "ANNOTATION"),
                "REF_ANNOTATION",
                ANNOTATION_ID=f"a{annotations}",
                ANNOTATION_REF=f"a{annotations - 1}",
            )
            SubElement(felt, "ANNOTATION_VALUE").text = f"{message.label or 'not sure'} {message.confidence:.2f}"
    SubElement(
        document, "LINGUISTIC_TYPE", GRAPHIC_REFERENCES="false", LINGUISTIC_TYPE_ID="utterance", TIME_ALIGNABLE="true"
    )
    SubElement(
        document,
        "LINGUISTIC_TYPE",
        CONSTRAINTS="Symbolic_Association",
        GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID="emotion",
        TIME_ALIGNABLE="false",
    )
    SubElement(
        document,
        "CONSTRAINT",
        DESCRIPTION="1-1 association with a parent annotation",
        STEREOTYPE="Symbolic_Association",
    )
    return _text(document)


def to_emotionml(judged: Judged) -> str:
    """Gives EmotionML: each utterance's probabilities as confidences in the categories of a vocabulary of its own.

    Valence and arousal become the PAD vocabulary's pleasure and arousal, from 0 to 1. Times are milliseconds since
    1970. An utterance that could not be judged has no emotion, and is left out.
    """
    sets = list(dict.fromkeys(message.label_set for message in judged.utterances if message.distribution))
    document = Element("emotionml", {"xmlns": EMOTIONML, "xmlns:mer": OURS, "version": "1.0"})
    for name in sets:
        vocabulary = SubElement(document, "vocabulary", type="category", id=_name(name))
        labels = (label for each in judged.utterances if each.label_set == name for label in each.distribution)
        for label in dict.fromkeys(labels):
            SubElement(vocabulary, "item", name=_name(label))
    for message in judged.utterances:
        if message.distribution:
            _emotion(document, message)
    return _text(document)


def _emotion(document: Element, message: EmotionMessage) -> None:
    emotion = SubElement(
        document,
        "emotion",
        {
            "id": _name(message.utterance),
            "category-set": f"#{_name(message.label_set)}",
            "start": str(round(message.started_at.timestamp() * 1000)),
            "end": str(round(message.ended_at.timestamp() * 1000)),
        },
    )
    if message.modalities_used:
        emotion.set("expressed-through", " ".join(CHANNELS.get(used, used) for used in message.modalities_used))
    info = SubElement(emotion, "info")
    SubElement(info, "mer:utterance", speaker=_legal(who(message)), model=_legal(message.model))
    for label, probability in message.distribution.items():
        SubElement(emotion, "category", name=_name(label), confidence=f"{probability:.6f}")
    for name, value in (("pleasure", message.valence), ("arousal", message.arousal)):
        if value is not None:
            emotion.set("dimension-set", PAD)
            SubElement(emotion, "dimension", name=name, value=f"{(value + 1) / 2:.6f}")
    if message.text:
        emotion[-1].tail = _legal(message.text)


def _legal(text: str) -> str:
    """The text without what XML can't hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", " ", text)


def _name(text: str) -> str:
    """The text as an XML name without a colon."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", text)
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"


def _text(document: Element) -> str:
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(document, encoding="unicode") + "\n"
