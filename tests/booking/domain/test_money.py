"""Money is the same amount in the domain and in messages, in every currency."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_service.domain.money import Money, exponent
from booking_service.mapping import scalars
from booking_service.mapping.fields import MAX_AMOUNT_MINOR, Fields
from servicekit.errors import ApiError

currencies = st.sampled_from(["JPY", "USD", "EUR", "KWD", "CLF"])


@given(st.integers(0, MAX_AMOUNT_MINOR), currencies)
def test_an_amount_comes_back_exactly(minor: int, currency: str) -> None:
    digits = exponent(currency)
    assert digits is not None
    message = scalars.money(minor, currency)
    assert message.units * 10**digits + message.nanos * 10**digits // 10**9 == minor
    fields = Fields()
    assert fields.money("price", message, present=True) == Money(minor, currency)
    fields.refuse_bad()


@given(st.integers(0, 10**9), st.integers(1, 999_999_999), currencies)
def test_a_fraction_of_a_minor_unit_is_refused(units: int, nanos: int, currency: str) -> None:
    digits = exponent(currency)
    assert digits is not None
    message = scalars.money(0, currency)
    message.units, message.nanos = units, nanos
    fields = Fields()
    read = fields.money("price", message, present=True)
    if nanos % 10 ** (9 - digits):
        with pytest.raises(ApiError):
            fields.refuse_bad()
    else:
        assert read == Money(units * 10**digits + nanos // 10 ** (9 - digits), currency)
