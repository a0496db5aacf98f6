"""Decimal digits of a currency's minor unit: ISO 4217, where it is not two."""

from __future__ import annotations

from typing import Final

_USUAL: Final = 2
_CODES: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_EXPONENTS: Final = {code: digits for digits, codes in _CODES.items() for code in codes.split()}


def exponent(currency: str) -> int:
    """Return the digits after the decimal point: amount = minor / 10**exponent."""
    return _EXPONENTS.get(currency, _USUAL)
