"""How many digits a currency's minor unit stands for: ISO 4217, where it is not two."""

from __future__ import annotations

_USUAL = 2
_CODES = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_EXPONENTS = {code: digits for digits, codes in _CODES.items() for code in codes.split()}


def exponent(currency: str) -> int:
    """Digits after the decimal point: amount = minor / 10**exponent."""
    return _EXPONENTS.get(currency, _USUAL)
