from pathlib import Path

import pytest

from mer_agent.config import settings as config
from mer_agent.errors import ConfigError


def test_later_sources_win_and_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[mqtt]\nport = 1001\nprefix = 'a'\n[agent]\nname = 'file'\n")
    loaded = config.load(
        file,
        {"MER_MQTT_PORT": "1002", "MER_AGENT_NAME": "env", "PATH": "/bin"},
        ["mqtt.port=1003"],
        {"agent.session": ("s1", "--session")},
    )
    assert loaded.settings.mqtt.port == 1003
    assert loaded.settings.agent.name == "env"
    assert loaded.settings.mqtt.prefix == "a"
    origins = {setting.key: setting.origin for setting in loaded}
    assert origins["mqtt.port"] == "--set"
    assert origins["agent.name"] == "MER_AGENT_NAME"
    assert origins["mqtt.prefix"] == str(file)
    assert origins["agent.session"] == "--session"
    assert origins["mqtt.url"] == "default"


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        ({"environment": {"MER_MQTT_PROT": "1"}}, "MER_MQTT_PORT"),
        ({"assignments": ["mqtt.prot=1"]}, "mqtt.port"),
        ({"assignments": ["segmenter.hangover=1"]}, "segmenter.hangover_ms"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(arguments: dict[str, object], nearest: str) -> None:
    with pytest.raises(ConfigError, match=nearest):
        config.load(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mqqt]\nport = 1\n", "nearest is mqtt"),
        ("[mqtt]\nprot = 1\n", "nearest is mqtt.port"),
        ("mqtt = 3\n", r"write \[mqtt\]"),
        ("[mqtt\n", "not valid TOML"),
        ("[mqtt]\nport = 70000\n", "mqtt.port .from .*65535"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        config.load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        config.load(tmp_path / "nowhere.toml")


def test_a_value_out_of_range_names_its_origin() -> None:
    with pytest.raises(ConfigError, match="MER_SEGMENTER_THRESHOLD"):
        config.load(environment={"MER_SEGMENTER_THRESHOLD": "1.5"})


def test_a_password_is_refused_on_the_command_line_and_hidden_in_print() -> None:
    with pytest.raises(ConfigError, match="MER_MQTT_PASSWORD"):
        config.load(assignments=["mqtt.password=secret"])
    loaded = config.load(environment={"MER_MQTT_PASSWORD": "secret"})
    assert loaded.settings.mqtt.password.get_secret_value() == "secret"
    assert "secret" not in str(list(loaded))


def test_an_assignment_without_equals_says_how() -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        config.load(assignments=["mqtt.port"])


def test_every_setting_is_described_and_sections_have_no_underscore() -> None:
    # MER_<SECTION>_<KEY> is unambiguous only as long as this holds.
    assert all("_" not in setting.key.split(".")[0] for setting in config.load())
    assert all(setting.description for setting in config.load())


def test_the_settings_written_as_toml_read_back_the_same(tmp_path: Path) -> None:
    loaded = config.load(environment={"MER_MQTT_PASSWORD": "secret"}, assignments=["mqtt.publish_text=true"])
    file = tmp_path / "all.toml"
    file.write_text(config.as_toml(loaded))
    assert "secret" not in file.read_text()
    again = {setting.key: setting.value for setting in config.load(file)}
    assert again == {setting.key: setting.value for setting in loaded} | {"mqtt.password": again["mqtt.password"]}


def test_a_rule_between_two_settings_names_where_they_came_from() -> None:
    with pytest.raises(ConfigError, match=r"segmenter \(from --set, MER_SEGMENTER_THRESHOLD\).*exit_threshold"):
        config.load(environment={"MER_SEGMENTER_THRESHOLD": "0.4"}, assignments=["segmenter.exit_threshold=0.6"])
