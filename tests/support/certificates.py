"""A certificate authority of a test's own, and what it has signed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import trustme


class Authority:
    """Signs for this machine's loopback."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, expires: datetime | None = None) -> tuple[Path, Path]:
        """A certificate and its key, in two files."""
        signed = self._ca.issue_cert("localhost", "127.0.0.1", common_name=name, not_after=expires)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        signed.private_key_pem.write_to_path(key)
        certificate.write_bytes(b"".join(blob.bytes() for blob in signed.cert_chain_pems))
        return certificate, key

    def server(self, expires: datetime | None = None) -> str:
        """The lines of Mosquitto's configuration for a listener with such a certificate."""
        certificate, key = self.issue("server", expires)
        return f"cafile {self.file}\ncertfile {certificate}\nkeyfile {key}"
