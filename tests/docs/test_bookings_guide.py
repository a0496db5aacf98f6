"""The diagram of the states in docs/bookings.md is what the rules allow."""

from __future__ import annotations

import re
from pathlib import Path

from booking_service.domain.booking import State
from tests.booking.scripts.books import ALLOWED

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "bookings.md"


def test_the_diagram_has_every_transition_that_the_rules_allow_and_no_other() -> None:
    drawn = re.findall(r"^    (\S+) --> (\w+):", GUIDE.read_text(), flags=re.MULTILINE)
    assert drawn[0] == ("[*]", State.HELD)
    assert len(drawn) == len(set(drawn))
    assert set(drawn[1:]) == ALLOWED
