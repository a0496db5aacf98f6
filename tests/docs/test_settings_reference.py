"""docs/settings.md lists every setting as it is now."""

from __future__ import annotations

from pathlib import Path

from booking_service.config import BookingSettings
from metrics_service.config import MetricsSettings
from servicekit.client_settings import ClientSettings
from servicekit.settings import Settings, variables
from servicekit.settings_reference import reference

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, type[Settings]] = {
    "booking_service": BookingSettings,
    "metrics_service": MetricsSettings,
    "Clients": ClientSettings,
}


def test_the_committed_page_is_current() -> None:
    assert (ROOT / "docs/settings.md").read_text() == reference(SERVICES), "run make docs"


def test_every_setting_is_described_and_listed() -> None:
    page = reference(SERVICES)
    for settings in SERVICES.values():
        for field, info in settings.model_fields.items():
            assert info.description, f"{settings.__name__}.{field}"
            assert info.description.endswith("."), f"{settings.__name__}.{field}"
            for name in variables(settings, field, info):
                assert f"`{name}`" in page


def test_both_services_check_their_settings_without_starting() -> None:
    for settings in (BookingSettings, MetricsSettings):
        prefix = settings.model_config["env_prefix"]
        loaded = settings.load({f"{prefix}DATABASE_URL": "postgresql://localhost/x"})
        assert loaded.model_dump()["host"] == "127.0.0.1"
