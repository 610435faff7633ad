from __future__ import annotations

from pathlib import Path

import pytest

from mer_agent.config.settings import MqttSettings
from mer_agent.errors import ConfigError
from mer_agent.wire.endpoint import Endpoint


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.8.8"])
def test_this_machine_needs_no_protection(host: str) -> None:
    assert Endpoint.from_settings(MqttSettings(url=f"mqtt://{host}")).local


def test_another_machine_without_any_protection_is_refused_unless_it_is_meant_so() -> None:
    settings = MqttSettings(url="mqtt://broker.example")
    with pytest.raises(ConfigError, match=r"mqtts://.*mqtt\.insecure"):
        Endpoint.from_settings(settings)
    for changes in (
        {"insecure": True},
        {"username": "ada"},
        {"url": "mqtts://broker.example"},
    ):
        assert not Endpoint.from_settings(settings.model_copy(update=changes)).local


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_can_t_be_read_are_named(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    if content:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"mqtt\.ca_file .*file\.pem"):
        Endpoint("broker", tls=True, ca_file=file).tls_context()
    with pytest.raises(ConfigError, match=r"mqtt\.cert_file: .*file\.pem"):
        Endpoint("broker", tls=True, cert_file=file).tls_context()


def test_without_tls_nothing_is_read() -> None:
    assert Endpoint("broker", ca_file=Path("nowhere")).tls_context() is None
