"""A settings mistake is one line naming the variable, its value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from servicekit.settings import ServerSettings, SettingsError


class Shop(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_")

    database_url: str = Field(
        "postgresql://localhost/shop",
        validation_alias=AliasChoices("SHOP_DATABASE_URL", "DATABASE_URL"),
        description="Where.",
        pattern="^postgres",
    )
    token: SecretStr | None = Field(None, min_length=8, description="Secret.")
    ratio: float = Field(0.5, gt=0, lt=1, description="Share.")


def refused(**environ: str) -> str:
    with pytest.raises(SettingsError) as raised:
        Shop.load(environ)
    text = str(raised.value)
    assert "\n" not in text
    return text


def test_defaults_need_no_environment() -> None:
    settings = Shop.load({"PATH": "/bin", "BOOKING_PORT": "not ours"})
    assert (settings.host, settings.port, settings.log_format) == ("127.0.0.1", 50051, "auto")


def test_values_are_converted_to_their_types() -> None:
    settings = Shop.load(
        {"SHOP_PORT": "7", "SHOP_UVLOOP": "false", "SHOP_TLS_CERT": "/c", "SHOP_TLS_KEY": "/k"}
    )
    assert (settings.port, settings.uvloop, settings.tls_cert) == (7, False, Path("/c"))


def test_only_the_given_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PORT", "9")
    assert Shop.load({}).port == 50051
    assert Shop.load().port == 9


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Shop.load({}).port = 1


def test_the_preferred_of_two_variables_wins() -> None:
    both = {"DATABASE_URL": "postgresql://a/b", "SHOP_DATABASE_URL": "postgresql://c/d"}
    assert Shop.load({"DATABASE_URL": "postgresql://a/b"}).database_url == "postgresql://a/b"
    assert Shop.load(both).database_url == "postgresql://c/d"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("SHOP_PORT", "abc", "must be a whole number from 0 to 65535"),
        ("SHOP_PORT", "65536", "must be a whole number from 0 to 65535"),
        ("SHOP_PORT", "", "must be a whole number from 0 to 65535"),
        ("SHOP_LOG_FORMAT", "xml", "must be one of auto, console, json"),
        ("SHOP_UVLOOP", "maybe", "must be true or false"),
        ("SHOP_RATIO", "1.0", "must be a number above 0 below 1"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed(name: str, value: str, allowed: str) -> None:
    assert refused(**{name: value}) == f"{name}={value!r}: {allowed}"


def test_all_bad_values_are_named_at_once() -> None:
    text = refused(SHOP_PORT="x", SHOP_LOG_LEVEL="loud")
    assert "SHOP_PORT='x'" in text
    assert "SHOP_LOG_LEVEL='loud'" in text


def test_an_unknown_variable_with_the_prefix_is_refused_with_a_hint() -> None:
    assert refused(SHOP_PROT="1") == "SHOP_PROT is not a setting; did you mean SHOP_PORT?"
    assert refused(SHOP_ZZZZZZ="1") == "SHOP_ZZZZZZ is not a setting"


def test_secrets_and_passwords_are_not_shown() -> None:
    assert refused(SHOP_TOKEN="hunter2") == "SHOP_TOKEN=***: must be text of at least 8 characters"
    text = refused(DATABASE_URL="mysql://user:hunter2@host/db")
    assert "hunter2" not in text
    assert text.startswith("DATABASE_URL='mysql://***'")


def test_plaintext_on_another_address_needs_an_explicit_setting() -> None:
    text = refused(SHOP_HOST="0.0.0.0")
    assert text.startswith("SHOP_HOST='0.0.0.0': only 127.0.0.1")
    assert "SHOP_ALLOW_PLAINTEXT_REMOTE=true" in text
    assert "SHOP_ALLOW_ANONYMOUS_REMOTE=true" in refused(
        SHOP_HOST="0.0.0.0", SHOP_ALLOW_PLAINTEXT_REMOTE="true"
    )
    allowed = {
        "SHOP_HOST": "0.0.0.0",
        "SHOP_ALLOW_PLAINTEXT_REMOTE": "true",
        "SHOP_ALLOW_ANONYMOUS_REMOTE": "true",
    }
    assert Shop.load(allowed).host == "0.0.0.0"


def test_half_a_tls_setting_is_refused() -> None:
    assert "SHOP_TLS_CERT and SHOP_TLS_KEY must be set together" in refused(SHOP_TLS_CERT="/c")
    assert "SHOP_TLS_CLIENT_CA needs SHOP_TLS_CERT" in refused(SHOP_TLS_CLIENT_CA="/ca")
