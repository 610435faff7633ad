"""What a user types and sees: one clear line and the right exit code, never a traceback."""

import json
import signal
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support import needs

from mer_agent import __version__, cli
from mer_agent.config import settings as config
from mer_agent.encoders import weights


@dataclass
class Ran:
    code: int
    out: str
    err: str

    def fails_with(self, code: int, *parts: str) -> None:
        """Asserts one clear line on standard error."""
        assert self.code == code, self.err
        line = self.err.strip().splitlines()[-1]
        assert line.startswith("mer-agent: "), self.err
        assert "Traceback" not in self.err
        for part in parts:
            assert part in line


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the command line in this process."""

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["mer-agent", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Ran(code, *capfd.readouterr())

    yield call
    weights.set_directory(None)  # a test may have pointed it elsewhere


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """A second of a tone: sound, but no speech."""
    samples = (np.sin(np.arange(16_000) / 10) * 8000).astype("<i2")
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return tmp_path / "tone.wav"


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_version(run: Run) -> None:
    assert run("--version").out.strip() == f"mer-agent {__version__}"


def test_help_teaches_the_first_commands(run: Run) -> None:
    ran = run("--help")
    assert ran.code == 0
    for word in ("mer-agent demo", "--replay", "--mqtt", "listen", "weights"):
        assert word in ran.out


def test_config_prints_every_setting_and_where_it_came_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MER_MQTT_PORT", "1999")
    lines = run("--set", "agent.name=desk", "config").out.splitlines()
    found = {line.split()[0]: line.split()[1:] for line in lines}
    assert set(found) == set(config.keys())
    assert found["mqtt.port"] == ["1999", "MER_MQTT_PORT"]
    assert found["agent.name"] == ["desk", "--set"]
    assert found["mqtt.prefix"] == ["mer/v1", "default"]


def test_config_as_toml_is_a_file_that_config_reads(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(run("--set", "agent.name=desk", "config", "--toml").out)
    assert run("--config", file, "--version").code == 0
    assert config.load(file).settings.agent.name == "desk"


def test_schema_is_json_schema(run: Run) -> None:
    assert {"emotion", "status", "turn", "command"} <= set(json.loads(run("schema").out))
    assert json.loads(run("schema", "--asyncapi").out)["asyncapi"].startswith("3.")


def test_an_unknown_setting_names_the_nearest(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("--set", "mqtt.prot=1", "config").fails_with(2, "mqtt.port")
    monkeypatch.setenv("MER_SEGMENTER_HANGOVER", "1")
    run("config").fails_with(2, "MER_SEGMENTER_HANGOVER_MS")


def test_options_that_make_no_sense(run: Run, tone: Path) -> None:
    run("--replay", tone, "--speed", "fast").fails_with(2, "1.0", "max")
    run("--quiet").fails_with(2, "--replay")
    ran = run("--nonsense")
    assert ran.code == 2
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("kind", ["missing", "text", "silent video", "empty", "folder"])
def test_a_recording_that_cannot_be_played(run: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "recording.wav"
    if kind == "text":
        path.write_text("I am no sound.")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "silent video":
        path = _video_without_sound(tmp_path / "silent.mp4")
    run("--replay", path, "--speed", "max").fails_with(2, path.name)


def test_an_output_that_cannot_be_written(run: Run, tone: Path, tmp_path: Path) -> None:
    run("--replay", tone, "--output", tmp_path / "missing" / "out.jsonl").fails_with(2, "out.jsonl")


def test_an_output_that_is_the_recording_is_refused_and_nothing_is_lost(run: Run, tone: Path) -> None:
    before = tone.read_bytes()
    run("--replay", tone, "--output", tone).fails_with(2, "the recording itself")
    assert tone.read_bytes() == before


def test_two_things_to_do_at_once_are_refused(run: Run, tone: Path) -> None:
    run("--replay", tone, "config").fails_with(2, "config")


def test_an_empty_weights_folder_is_not_verified(run: Run, tmp_path: Path) -> None:
    run("--set", f"weights.dir={tmp_path}", "weights", "verify").fails_with(2, "mer-agent weights pull")


@pytest.mark.parametrize(("setting", "part"), [("language=xx", "language"), ("compute_type=float99", "float99")])
def test_a_setting_that_the_recogniser_refuses_is_named(tone: Path, setting: str, part: str) -> None:
    needs.weights("whisper-base")
    # In a process of its own: it ends while the other models are still being imported on their thread.
    arguments = ["--set", f"transcriber.{setting}", "--replay", str(tone), "--speed", "max"]
    command = [sys.executable, "-m", "mer_agent.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    Ran(done.returncode, done.stdout, done.stderr).fails_with(2, part)


def test_a_reader_that_leaves_does_not_stop_anything() -> None:
    command = [sys.executable, "-m", "mer_agent.cli", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as `head` does
        said = process.stderr.read()
    assert "Traceback" not in said
    assert "bug" not in said


@pytest.mark.real_weights
@pytest.mark.parametrize("wait_for", ["Loading models", "Ready after"])
def test_ctrl_c_ends_within_seconds_without_a_traceback(tone: Path, tmp_path: Path, wait_for: str) -> None:
    for name in needs.AGENT:
        needs.weights(name)
    long = tmp_path / "long.wav"
    with wave.open(str(tone), "rb") as short, wave.open(str(long), "wb") as file:
        file.setparams(short.getparams())
        file.writeframes(short.readframes(16_000) * 60)
    command = [sys.executable, "-m", "mer_agent.cli", "--replay", str(long)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while wait_for not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        said += process.stderr.read()
        assert process.wait(20) == 130, said
    assert time.monotonic() - begun < 10
    assert "Traceback" not in said


def test_a_broker_that_is_not_there(run: Run, tone: Path, closed_port: int) -> None:
    begun = time.monotonic()
    run("--replay", tone, "--speed", "max", "--mqtt", f"mqtt://127.0.0.1:{closed_port}").fails_with(1, str(closed_port))
    assert time.monotonic() - begun < 15


def test_an_mqtt_port_that_is_taken(run: Run, tone: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        run("--replay", tone, "--mqtt-port", port).fails_with(2, str(port), "--mqtt-port")


def test_weights_that_were_not_pulled_name_the_command(run: Run, tone: Path, tmp_path: Path) -> None:
    run("--set", f"weights.dir={tmp_path}/none", "--replay", tone, "--speed", "max").fails_with(
        2, "mer-agent weights pull"
    )


def test_a_checkpoint_that_is_unknown_or_truncated(run: Run, tone: Path, tmp_path: Path) -> None:
    needs.weights("whisper-base")
    run("--replay", tone, "--speed", "max", "--checkpoint", "nobody").fails_with(2, "iemocap6")
    from mer_agent.models.checkpoint import SHIPPED

    for suffix in (".json", ".safetensors"):
        content = (SHIPPED / f"iemocap6{suffix}").read_bytes()
        (tmp_path / f"short{suffix}").write_bytes(content if suffix == ".json" else content[:-1000])
    run("--replay", tone, "--speed", "max", "--checkpoint", tmp_path / "short.safetensors").fails_with(2, "damaged")


def test_a_checkpoint_that_can_not_run_live(run: Run, tone: Path, tmp_path: Path) -> None:
    needs.weights("whisper-base")
    from mer_agent.models import checkpoint
    from mer_agent.models.batch import FeatureSpec
    from mer_agent.models.peers.gru import PastGRU

    specs = (FeatureSpec("audio/ge2e@1", "audio", 256),)
    path = checkpoint.save(
        tmp_path,
        PastGRU(specs, 2, units=4),
        name="floor",
        model_name="gru",
        specs=specs,
        shape={"units": 4},
        label_set="two",
        labels=("a", "b"),
        data="",
        terms="",
        figures={},
        training={},
    )
    run("--replay", tone, "--speed", "max", "--checkpoint", path).fails_with(2, "floor is a gru", "ar-iigcn")


@pytest.mark.parametrize("package", ["av", "torch", "amqtt"])
def test_without_the_agents_extra_the_error_names_the_command_that_installs_it(tone: Path, package: str) -> None:
    needs.weights("whisper-base")
    script = (
        f"import sys\nsys.modules[{package!r}] = None\nfrom mer_agent.cli import main\n"
        f"sys.argv = ['mer-agent', '--replay', {str(tone)!r}, '--speed', 'max']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert "pip install 'mer-agent[agent]'" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.real_weights
def test_a_recording_without_speech_is_no_error(run: Run, tone: Path, tmp_path: Path) -> None:
    for name in needs.AGENT:
        needs.weights(name)
    ran = run("--replay", tone, "--speed", "max", "--output", tmp_path / "out.jsonl")
    assert ran.code == 0, ran.err
    assert "mosquitto_sub" in ran.err
    assert "0 utterances" in ran.err
    assert (tmp_path / "out.jsonl").read_text() == ""


def _video_without_sound(path: Path) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_live_and_replay_are_two_things_to_do(run: Run, tone: Path) -> None:
    run("--replay", tone, "--mic", "0").fails_with(2, "--replay", "--mic")
    run("--replay", tone, "--camera", "0").fails_with(2, "--camera")
    run("--mic", "0", "config").fails_with(2, "--mic", "config")


def test_devices_are_listed_for_people_and_for_programs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from mer_agent.streams import camera, microphone
    from mer_agent.streams.devices import DeviceInfo

    analog = DeviceInfo(2, "HDA [Analog]", "2 channels, 48000 Hz", True, 48_000.0, 2)
    monkeypatch.setattr(microphone, "microphones", lambda: [analog])
    monkeypatch.setattr(camera, "cameras", list)
    lines = run("devices").out.splitlines()
    assert lines[1].split() == ["*", "2", "HDA", "[Analog]", "2", "channels,", "48000", "Hz"]
    assert lines[3].strip() == "none"
    listing = json.loads(run("devices", "--json").out)
    assert (listing["microphone"][0]["name"], listing["camera"]) == ("HDA [Analog]", [])
