"""Where a broker is, as whom we go there, and over which wire.

Nothing leaves this machine unprotected by mistake: a remote broker needs TLS or at least a user name, or a setting that
says that it is meant so. Secrets come from the environment or from files.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from mer_agent.errors import ConfigError

if TYPE_CHECKING:
    from mer_agent.config.settings import MqttSettings

MqttVersion = Literal["auto", "5", "3.1.1"]

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker, and what is needed to be let in."""

    host: str
    port: int = 1883
    tls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
    version: MqttVersion = "auto"
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    cert_file: Path | None = None
    """Our own certificate, for brokers that want one."""
    key_file: Path | None = None
    client_id: str = ""
    """Our name at the broker; empty: it gives us one."""
    keep_s: int = 0
    """How long the broker keeps what we miss while we are away; needs a `client_id`. MQTT 3.1.1 knows only for ever."""

    @property
    def url(self) -> str:
        """The address without any credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @classmethod
    def parse(cls, url: str, *, username: str = "", password: str = "", version: MqttVersion = "auto") -> Endpoint:
        """Reads `mqtt[s]://[USER@]HOST[:PORT]`.

        Raises:
            ConfigError: it is something else, or has the password in it, where `ps` and logs would show it.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
            parts = urlsplit("")
        if parts.password is not None:
            raise ConfigError("the broker's password can't stand in its URL; use MER_MQTT_PASSWORD or a password file")
        if not host or parts.scheme not in _PORTS or parts.path.strip("/") or parts.query or parts.fragment:
            raise ConfigError(f"{url!r} is no broker; write mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS")
        user = username or parts.username or ""
        return cls(host, port or _PORTS[parts.scheme], parts.scheme == "mqtts", user, password, version)

    @classmethod
    def from_settings(cls, settings: MqttSettings) -> Endpoint:
        """The broker of the settings, with the password from the environment or its file.

        Raises:
            ConfigError: the URL or the password file can't be read, or anybody on the way could listen.
        """
        password = settings.password.get_secret_value()
        if not password and settings.password_file:
            password = _first_line(settings.password_file)
        parsed = cls.parse(settings.url, username=settings.username, password=password, version=settings.version)
        endpoint = cls(
            parsed.host,
            parsed.port,
            parsed.tls,
            parsed.username,
            parsed.password,
            parsed.version,
            settings.ca_file,
            settings.cert_file,
            settings.key_file,
        )
        if not (endpoint.local or endpoint.tls or endpoint.username or settings.insecure):
            raise ConfigError(
                f"{endpoint.url} is another machine, without TLS and without a user name: anybody on the way could "
                "read and write emotions. Use mqtts:// or mqtt.username; if it is meant so, set mqtt.insecure"
            )
        return endpoint

    def tls_context(self) -> ssl.SSLContext | None:
        """How to encrypt; None: not at all. Made anew for each connection, so that renewed certificates count.

        Raises:
            ConfigError: a certificate or key can't be read.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"mqtt.ca_file {self.ca_file}: no certificates can be read from it ({error})") from error
        if self.cert_file:
            try:
                # A key with a password would ask for it on the terminal, for ever where there is none.
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
            except (OSError, ssl.SSLError) as error:
                what = f"{self.cert_file} and {self.key_file or 'the key in it'}"
                raise ConfigError(f"mqtt.cert_file: {what} are no certificate with its key ({error})") from error
        return context


def _first_line(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: the password file can't be read ({error})") from error
