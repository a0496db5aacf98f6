"""The settings of an HTTP side beside gRPC."""

from __future__ import annotations

import re
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from servicekit.http.hosts import ANY
from servicekit.settings import ServerSettings

HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?", re.ASCII)


class HttpSettings(ServerSettings):
    """The settings of a service that serves HTTP too; its port is its own setting."""

    http_host: str = Field("127.0.0.1", description="Address that HTTP listens on.")
    http_hosts: str = Field(
        "",
        description="Names under which HTTP is reached, separated by commas, beside addresses, "
        "loopback names, and those that other settings have; a request for another name is "
        "refused; * takes every name.",
    )

    @property
    def http_names(self) -> frozenset[str]:
        """The names under which HTTP is reached, in lower case."""
        names = (self.http_host, *self.http_hosts.split(","))
        return frozenset(name.lower() for name in names if name)

    @field_validator("http_hosts")
    @classmethod
    def _check_http_hosts(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",") if name.strip()]
        if not all(name == ANY or HOST.fullmatch(name) for name in names):
            raise ValueError("must be names without ports, such as metrics.example.org, or *")
        return ",".join(names)

    @model_validator(mode="after")
    def _check_http_exposure(self) -> Self:
        self.check_exposure("HTTP_HOST", self.http_host)
        return self
