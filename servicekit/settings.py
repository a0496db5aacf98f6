"""Settings from the environment, checked as a whole before anything starts.

A mistake (a bad value, or an unknown variable with the service's prefix) stops the start with one
line that names the variable, its value and what is allowed.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from servicekit.database_url import hidden
from servicekit.logs import LogFormat, LogLevel
from servicekit.start import StartError

LOOPBACK_HOSTS: Final = ("127.0.0.1", "::1", "localhost")


class SettingsError(StartError):
    """Settings are wrong; the text is one line."""

    exit_status = 2


class Settings(BaseSettings):
    """Base of a service's settings: set `env_prefix` in `model_config`, describe each field.

    A field is read from its prefixed name in capitals, or, with `validation_alias`, from the
    first of the variables named there (`AliasChoices("BOOKING_DATABASE_URL", "DATABASE_URL")`).
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read and check `environ`, by default the process's. Raises `SettingsError`."""
        given = os.environ if environ is None else environ
        cls._refuse_unknown(given)
        values: dict[str, str] = {}
        names: dict[str, str] = {}
        for field, info in cls.model_fields.items():
            candidates = variables(cls, field, info)
            name = next((each for each in candidates if each in given), None)
            names[field] = name or candidates[0]
            if name is not None:
                values[field] = given[name]
        try:
            return cls(**values)
        except ValidationError as error:
            raise SettingsError(_one_line(cls, error, names, values)) from None

    @classmethod
    def _refuse_unknown(cls, given: Mapping[str, str]) -> None:
        prefix = cls.model_config.get("env_prefix", "")
        known = {
            name for field, info in cls.model_fields.items() for name in variables(cls, field, info)
        }
        for name in sorted(given):
            if prefix and name.startswith(prefix) and name not in known:
                near = difflib.get_close_matches(name, sorted(known), n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise SettingsError(f"{name} is not a setting{hint}")

    @classmethod
    def settings_customise_sources(  # the signature is pydantic-settings'
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only what `load` passes, so that a test's mapping is complete."""
        return (init_settings,)


class ServerSettings(Settings):
    """The settings of every gRPC server here."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(50051, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    log_level: LogLevel = Field("info", description="The least severe records that are written.")
    log_format: LogFormat = Field(
        "auto", description="auto is console on a terminal and json otherwise."
    )
    uvloop: bool = Field(True, description="Whether to run on uvloop instead of asyncio's loop.")
    revision: str = Field(
        "",
        max_length=100,
        description="Revision of the code that runs, such as a commit, for farehold_build_info.",
    )
    reflection: bool = Field(True, description="Whether to answer gRPC reflection.")
    identities: Path | None = Field(
        None,
        description=(
            "TOML file of the callers, with their roles: known by their certificates where "
            "TLS_CLIENT_CA is set, else by tokens. Without it everybody may do everything."
        ),
    )
    trust_caller_header: bool = Field(
        False, description="Whether the x-caller metadata names the caller, without identities."
    )
    drain_timeout_s: float = Field(
        3.0, ge=0, le=600, description="How long RPCs in flight may take to end after SIGTERM."
    )
    connections_max: int = Field(
        1024,
        ge=8,
        le=65_536,
        description="Largest number of gRPC connections; a further one is closed at once.",
    )
    connection_age_s: float = Field(
        1800.0,
        ge=0.1,
        le=604_800,
        description="When a gRPC connection is replaced; streams end by then, the rest at twice.",
    )
    allow_plaintext_remote: bool = Field(
        False, description="Whether an address other than loopback may be served without TLS."
    )
    allow_anonymous_remote: bool = Field(
        False,
        description="Whether an address other than loopback may be served without identities.",
    )
    tls_cert: Path | None = Field(None, description="PEM file of the server's certificate chain.")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's key.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of the authorities whose client certificates are required."
    )
    otlp_endpoint: str = Field(
        "",
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        repr=False,
        description=(
            "Where traces are sent by OTLP over gRPC, such as http://127.0.0.1:4317; needs the "
            "extra `otlp`. Empty sends none."
        ),
    )
    trace_ratio: float = Field(
        0.01,
        validation_alias="OTEL_TRACES_SAMPLER_ARG",
        ge=0,
        le=1,
        description="Part of the calls that are recorded where the caller's trace does not say.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _check_endpoint(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port is not None
        except ValueError:
            good = False
        if value and not good:
            raise ValueError("must be empty or an address such as http://127.0.0.1:4317")
        return value

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        prefix = self.model_config.get("env_prefix", "")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(f"{prefix}TLS_CERT and {prefix}TLS_KEY must be set together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError(f"{prefix}TLS_CLIENT_CA needs {prefix}TLS_CERT and {prefix}TLS_KEY")
        if self.tls_client_ca is not None and self.identities is None:
            raise ValueError(f"{prefix}TLS_CLIENT_CA needs {prefix}IDENTITIES")
        if self.identities is not None and self.tls_cert is None:
            raise ValueError(f"{prefix}IDENTITIES needs {prefix}TLS_CERT and {prefix}TLS_KEY")
        if self.trust_caller_header and self.identities is not None:
            raise ValueError(f"{prefix}TRUST_CALLER_HEADER cannot be set with {prefix}IDENTITIES")
        self.check_exposure("HOST", self.host)
        return self

    def check_exposure(self, setting: str, host: str) -> None:
        """Raise ValueError if an address other than loopback would be served to everybody, or in
        plaintext, and no setting says that it should be.
        """
        if host in LOOPBACK_HOSTS:
            return
        prefix = self.model_config.get("env_prefix", "")
        only = f"{prefix}{setting}={shown(host)}: only {', '.join(LOOPBACK_HOSTS)} may be served"
        if self.tls_cert is None and not self.allow_plaintext_remote:
            raise ValueError(
                f"{only} without {prefix}TLS_CERT, unless {prefix}ALLOW_PLAINTEXT_REMOTE=true"
            )
        if self.identities is None and not self.allow_anonymous_remote:
            raise ValueError(
                f"{only} without {prefix}IDENTITIES, unless {prefix}ALLOW_ANONYMOUS_REMOTE=true"
            )


def variables(cls: type[Settings], field: str, info: FieldInfo) -> list[str]:
    """Return the environment variables that a field is read from, the preferred one first."""
    alias = info.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(each) for each in alias.choices]
    if isinstance(alias, str):
        return [alias]
    return [cls.model_config.get("env_prefix", "") + field.upper()]


def allowed(info: FieldInfo) -> str:
    """Describe in words the values that a field takes."""
    kinds = [each for each in get_args(info.annotation) if each is not type(None)]
    literal = [each for each in kinds if isinstance(each, str)]
    if literal:
        return "one of " + ", ".join(literal)
    kind = kinds[0] if kinds else info.annotation
    words = next((text for known, text in _WORDS if kind is known), "text")
    return f"{words} {_bounds(info)}".strip()


_WORDS: Final = (
    (int, "a whole number"),
    (float, "a number"),
    (bool, "true or false"),
    (Path, "the path of a file"),
)


def _bounds(info: FieldInfo) -> str:
    parts = []
    for label, text in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below")):
        for rule in info.metadata:
            value = getattr(rule, label, None)
            if value is not None:
                parts.append(f"{text} {value}")
    for label, text in (("min_length", "at least"), ("max_length", "at most")):
        for rule in info.metadata:
            value = getattr(rule, label, None)
            if value is not None:
                parts.append(f"of {text} {value} characters")
    return " ".join(parts)


def _one_line(
    cls: type[Settings], error: ValidationError, names: dict[str, str], values: dict[str, str]
) -> str:
    lines = []
    for each in error.errors(include_url=False):
        cause = each.get("ctx", {}).get("error")
        field = str(each["loc"][0]) if each["loc"] else ""
        if not field:
            lines.append(str(cause or each["msg"]))
            continue
        field = next((name for name in cls.model_fields if names[name] == field), field)
        said = str(cause) if cause else f"must be {allowed(cls.model_fields[field])}"
        if field in values:
            shown = _shown(values[field], cls.model_fields[field])
            lines.append(f"{names[field]}={shown}: {said}")
        else:
            lines.append(f"{names[field]} is not set: {said}")
    return " | ".join(line.replace("\n", " ") for line in lines)


def _shown(value: str, info: FieldInfo) -> str:
    if SecretStr in (info.annotation, *get_args(info.annotation)):
        return "***"
    return shown(value) if info.repr else repr(hidden(value))


def shown(value: str) -> str:
    """Return the value of a setting for messages; of what may hold a password, only the scheme."""
    # An address may have been given to the wrong setting, or be so wrong that no parser finds its
    # password.
    secret = re.search(r"@|//|passw|\s", value, re.IGNORECASE)
    return repr(hidden(value) if secret else value[:100])
