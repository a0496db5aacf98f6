"""The settings of a program that calls a service: FAREHOLD_*, for every command and `make run`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from servicekit.channels import ClientFiles
from servicekit.pem import PemError
from servicekit.settings import Settings, SettingsError

PREFIX: Final = "FAREHOLD_"


class ClientSettings(Settings):
    """Where the service is, and what a client needs where it has TLS; nothing on loopback."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)

    target: str = Field(
        "",
        description="Address of the metrics_service that commands ask, such as"
        " `metrics.internal:50052`; by default METRICS_PORT of this machine, or 50052.",
    )
    tls_ca: Path | None = Field(
        None, description="PEM file of the authorities of the services' certificates."
    )
    tls_cert: Path | None = Field(None, description="PEM file of the client's certificate chain.")
    tls_key: Path | None = Field(None, description="PEM file of the client certificate's key.")
    token_file: Path | None = Field(
        None, description="File with the token of the client, where callers have tokens."
    )

    @property
    def files(self) -> ClientFiles:
        """The files that are set."""
        return ClientFiles(PREFIX, self.tls_ca, self.tls_cert, self.tls_key, self.token_file)


def client_files() -> ClientFiles:
    """Return the files that the environment names. Raises SettingsError if one is not good."""
    return checked(ClientSettings.load().files)


def checked(files: ClientFiles) -> ClientFiles:
    """Return the files once all are read. Raises SettingsError if one is not good."""
    try:
        files.check()
    except PemError as error:
        raise SettingsError(str(error)) from None
    return files
