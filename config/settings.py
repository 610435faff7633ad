"""Every setting of the agent: its type, unit, limits, default and meaning, and where its value came from.

Values are merged in this order, the later one winning: the defaults below, a TOML file (`--config FILE`), the
environment (`MER_<SECTION>_<KEY>`, as in `MER_MQTT_PORT=1884`), the command line (`--set mqtt.port=1884`, or an
option such as `--mqtt-port` that stands for one). An unknown key is an error that names the nearest one.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from mer_agent.errors import ConfigError

AUTO = "auto"
"""A language that is found out."""

Probability = Annotated[float, Field(ge=0, le=1)]
TopicSegment = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]


class Section(BaseModel):
    """One `[section]` of the settings; unknown keys are refused and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AgentSettings(Section):
    """Who we are."""

    name: TopicSegment = Field(default="agent", description="name of this agent in every topic")
    session: str = Field(
        default="",
        pattern=r"^[a-z0-9_-]{0,64}$",
        description="session id in topics; empty: made from the file's name or the time",
    )


class MicrophoneSettings(Section):
    """What is heard live."""

    device: str = Field(
        default="",
        description="default, an index, a name or part of one; several with ; between, and with speakers: ann=0;bob=1",
    )
    rate_hz: int = Field(default=0, ge=0, le=384_000, description="sample rate to ask for; 0: the device's own")


class CameraSettings(Section):
    """What is seen, live and in recordings."""

    device: str = Field(default="", description="default, an index, a name or part of one, a file, or a stream's URL")
    rate_hz: float = Field(default=10.0, gt=0, le=60, description="pictures looked at in a second, at most")
    width: int = Field(default=640, ge=64, le=8192, description="width to ask a camera for, in pixels")
    height: int = Field(default=480, ge=64, le=8192, description="height to ask a camera for, in pixels")


class MqttSettings(Section):
    """Where emotions are published."""

    url: str = Field(default="", description="broker, mqtt[s]://HOST:PORT; empty: an embedded one on loopback")
    port: int = Field(default=0, ge=0, le=65535, description="port of the embedded broker; 0: 1883 if free, else any")
    prefix: str = Field(default="mer/v1", pattern=r"^[a-z0-9_-]+(/[a-z0-9_-]+)*$", description="how every topic begins")
    username: str = Field(default="", description="user name at the broker")
    password: SecretStr = Field(default=SecretStr(""), description="password at the broker; environment or file only")
    password_file: Path | None = Field(default=None, description="file whose first line is the password")
    version: Literal["auto", "5", "3.1.1"] = Field(default="auto", description="of MQTT; auto: 5 if the broker has it")
    ca_file: Path | None = Field(default=None, description="certificates to trust instead of the system's, for mqtts")
    cert_file: Path | None = Field(default=None, description="our own certificate, for brokers that want one")
    key_file: Path | None = Field(default=None, description="key of our own certificate, if it isn't in the same file")
    insecure: bool = Field(default=False, description="allow a remote broker without TLS and without a user name")
    envelope: Literal["plain", "cloudevents"] = Field(default="plain", description="what payloads are wrapped in")
    publish_text: bool = Field(default=False, description="send the spoken words along; they are personal data")
    outbox_age_s: float = Field(default=30.0, gt=0, description="older predictions aren't worth sending any more")


class TurnSettings(Section):
    """What is done about the dialogue system's own voice in the microphone."""

    echo: Literal["attribute", "mute", "hear"] = Field(
        default="attribute", description="the system's own words: published as its own, dropped, or heard as anybody's"
    )
    tail_ms: int = Field(default=700, ge=0, le=5000, description="how long its voice may come after it has spoken")


class SegmenterSettings(Section):
    """Where an utterance begins and ends.

    The hangover is the price of every answer: an utterance is known to be over only that long after its last sound.
    Turns of a lively conversation follow each other within 200 to 500 ms, pauses inside a sentence last about as long;
    no length tells the two apart for certain, and a sentence in two parts harms less than two speakers in one.

    Of 36 pauses (over 130 ms) in four minutes of conversation after which somebody went on, half were over by 190 ms:
    so many looks for words before `pause_ms` were in vain. Later ones delay every answer.
    """

    threshold: float = Field(default=0.5, gt=0, lt=1, description="speech probability at which speech may begin")
    exit_threshold: float = Field(default=0.35, gt=0, lt=1, description="speech probability under which it may end")
    onset_ms: int = Field(default=64, ge=0, le=1000, description="speech must last this long to count as begun")
    hangover_ms: int = Field(default=320, ge=0, le=5000, description="silence must last this long to end an utterance")
    least_hangover_ms: int = Field(
        default=0, ge=0, le=5000, description="silence that ends a sentence which is plainly over; 0: none is"
    )
    min_speech_ms: int = Field(default=128, ge=0, le=1000, description="shorter speech is taken for a click or a cough")
    pause_ms: int = Field(
        default=200, ge=0, le=5000, description="silence after which the words are looked for, in case it is the end"
    )
    longest_ms: int = Field(default=12_000, ge=1000, le=25_000, description="longer speech is cut where it is quietest")
    padding_ms: int = Field(default=160, ge=0, le=1000, description="sound kept before and after the speech")
    news_ms: int = Field(default=500, ge=0, le=5000, description="speech between two partial predictions; 0: none")

    @model_validator(mode="after")
    def _hysteresis(self) -> Self:
        if self.exit_threshold > self.threshold:
            raise ValueError("exit_threshold must not be above threshold")
        if self.least_hangover_ms > self.hangover_ms:
            raise ValueError("least_hangover_ms must not be above hangover_ms")
        return self


class TranscriberSettings(Section):
    """How speech becomes words."""

    engine: str = Field(default="faster-whisper", description="faster-whisper, text, or one that a package brings")
    ahead: bool = Field(default=True, description="begin at the first short pause; thrown away if speech goes on")
    patience_s: float = Field(default=5.0, gt=0, description="live, later words make a revision of the prediction")
    file: Path | None = Field(default=None, description="engine text: JSON lines with the words; empty: over MQTT")
    weights: str = Field(default="whisper-base", description="weights of the recogniser: whisper-base, whisper-tiny.en")
    language: str = Field(default=AUTO, min_length=2, description="code such as en; auto: found out for each utterance")
    beam_size: int = Field(default=1, ge=1, le=10, description="hypotheses kept while decoding")
    emphasis: float = Field(
        default=0.2, gt=0, le=1, description="likelihood from which a sentence ends with `!` instead of `.`; 1: never"
    )
    compute_type: str = Field(default="int8", description="arithmetic: int8, int8_float16, float16, float32")
    threads: int = Field(
        default=0, ge=0, description="CPU threads of the recogniser; 0: one for two processors, four at most"
    )


class PartialSettings(Section):
    """What is said of an utterance while it is spoken."""

    when: Literal["live", "always", "never"] = Field(
        default="live", description="live: at real speed, not in a replay at full speed"
    )
    threshold: float = Field(
        default=0.1, ge=0, le=1, description="share of the distribution that must have moved to publish it again"
    )
    words_ms: int = Field(
        default=2000, ge=0, le=20_000, description="speech between two looks for words, at least; 0: none"
    )
    weights: str = Field(default="", description="weights for partial words, such as whisper-tiny.en; empty: the same")
    load: float = Field(default=0.35, gt=0, le=1, description="share of the time that partial words may take at most")


class SpeakerSettings(Section):
    """Who speaks."""

    limit: int = Field(default=8, ge=1, le=64, description="voices told apart at most")
    fixed: int = Field(default=0, ge=0, le=64, description="number of speakers when it is known; 0: find out")
    voices: Path | None = Field(default=None, description="file of enrolled voices; default: in the user's data folder")


class EncoderSettings(Section):
    """How utterances become features."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="auto: a GPU if there is one")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="float32",
        description="of sentence encoders; bfloat16 is faster where it is in hardware (auto finds out)",
    )
    threads: int = Field(default=1, ge=1, description="CPU threads of each encoder")


class ModelSettings(Section):
    """What judges the emotion."""

    checkpoint: str = Field(default="live", description="a shipped checkpoint, or the path of a .safetensors file")
    abstain_below: float = Field(default=0.0, ge=0, le=1, description="no label is given under this probability")
    why: bool = Field(default=False, description="say of each final prediction what moved it, as far as it is numbers")


class WeightsSettings(Section):
    """Where pretrained weights are kept."""

    dir: Path | None = Field(default=None, description="cache folder; default: the platform's cache folder")
    local: Path | None = Field(default=None, description="folder in which weights are looked for before any download")


class DataSettings(Section):
    """Where training data are."""

    dir: Path = Field(default=Path("../shared/data"), description="folder with iemocap/, meld/, mosi/ ...")


class Settings(BaseModel):
    """All sections."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    agent: AgentSettings = AgentSettings()
    microphone: MicrophoneSettings = MicrophoneSettings()
    camera: CameraSettings = CameraSettings()
    mqtt: MqttSettings = MqttSettings()
    turns: TurnSettings = TurnSettings()
    segmenter: SegmenterSettings = SegmenterSettings()
    transcriber: TranscriberSettings = TranscriberSettings()
    partial: PartialSettings = PartialSettings()
    speakers: SpeakerSettings = SpeakerSettings()
    encoders: EncoderSettings = EncoderSettings()
    model: ModelSettings = ModelSettings()
    weights: WeightsSettings = WeightsSettings()
    data: DataSettings = DataSettings()


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as a reader wants to see it."""

    key: str
    value: Any
    origin: str
    description: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective settings and, for each `section.key` that is not the default, where its value came from."""

    settings: Settings
    origins: Mapping[str, str]

    def __iter__(self) -> Iterator[Setting]:
        for section in Settings.model_fields:
            values = getattr(self.settings, section)
            for name, field in type(values).model_fields.items():
                key = f"{section}.{name}"
                yield Setting(key, getattr(values, name), self.origins.get(key, "default"), field.description or "")


def keys() -> list[str]:
    """Every `section.key` there is."""
    return [setting.key for setting in Loaded(Settings(), {})]


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
    options: Mapping[str, tuple[str, Any]] | None = None,
) -> Loaded:
    """Merges defaults, file, environment and command line into checked settings.

    Args:
        file: a TOML file, or None.
        environment: variables; those that begin with `MER_` must each be a setting.
        assignments: `section.key=value` texts of the command line.
        options: `section.key` -> (value, option name), for options that stand for a setting, such as `--mqtt-port`.

    Raises:
        ConfigError: an unknown key, an unreadable file or a value out of range, with its origin.
    """
    found: dict[str, tuple[Any, str]] = {}
    if file is not None:
        found |= _from_file(file)
    found |= _from_environment(environment or {})
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: write it as section.key=value")
        key = _known(key.strip(), keys(), "--set")
        if key in ("mqtt.username", "mqtt.password"):
            variable = f"MER_{key.replace('.', '_').upper()}"
            raise ConfigError(f"--set {key}: others can read a command line; use {variable} or a file")
        found[key] = (value, "--set")
    for key, (value, name) in (options or {}).items():
        found[key] = (value, name)
    return Loaded(_checked(found), {key: origin for key, (_, origin) in found.items()})


def plain(value: Any) -> str:
    """A value as a person reads it; a secret shows only that it is there."""
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else ""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def as_toml(loaded: Loaded) -> str:
    """The settings as a file that `--config` reads, with the meaning of each; secrets and unset paths are left out."""
    lines: list[str] = []
    for setting in loaded:
        section, name = setting.key.split(".")
        if f"[{section}]" not in lines:
            lines += ["", f"[{section}]"]
        number = isinstance(setting.value, bool | int | float)
        value = plain(setting.value) if number else json.dumps(plain(setting.value))
        absent = setting.value is None or isinstance(setting.value, SecretStr)
        lines += [f"# {setting.description}", f"# {name} =" if absent else f"{name} = {value}"]
    return "\n".join(lines[1:]) + "\n"


def _from_file(file: Path) -> dict[str, tuple[Any, str]]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: can't be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML ({error})") from error
    found = {}
    for section, values in document.items():
        _known(section, list(Settings.model_fields), str(file))
        if not isinstance(values, dict):
            raise ConfigError(f"{file}: {section} is a section; write [{section}] and its keys below")
        for name, value in values.items():
            found[_known(f"{section}.{name}", keys(), str(file))] = (value, str(file))
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    # No section has an underscore in its name, so MER_<SECTION>_<KEY> can be read in one way only.
    names = {f"MER_{key.replace('.', '_').upper()}": key for key in keys()}
    mine = {name: value for name, value in environment.items() if name.startswith("MER_")}
    return {names[_known(name, list(names), "the environment")]: (value, name) for name, value in mine.items()}


def _known(key: str, known: Sequence[str], origin: str) -> str:
    if key in known:
        return key
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    raise ConfigError(f"{key} (in {origin}) is no setting; the nearest is {near[0]}. `mer-agent config` lists all")


def _checked(found: Mapping[str, tuple[Any, str]]) -> Settings:
    nested: dict[str, dict[str, Any]] = {}
    for key, (value, _) in found.items():
        section, name = key.split(".")
        nested.setdefault(section, {})[name] = value
    try:
        return Settings.model_validate(nested)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        # A rule between two settings is broken by their section: any of its values that was set may be to blame.
        origins = sorted({origin for key, (_, origin) in found.items() if key == place or key.startswith(f"{place}.")})
        raise ConfigError(f"{place} (from {', '.join(origins)}): {first['msg']}") from None
