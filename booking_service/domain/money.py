"""Money in integer minor units, so that no sum is rounded by accident."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

# The codes of ISO 4217 by the number of digits after the decimal point.
_CODES: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
        AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD
        CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
        GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL
        MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN
        PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP
        SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD YER ZAR ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_EXPONENTS: Final = {code: digits for digits, codes in _CODES.items() for code in codes.split()}


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units of an ISO 4217 currency: 1050 EUR is 10.50 euro."""

    minor: int
    currency: str


def exponent(currency: str) -> int | None:
    """Return the digits after the decimal point of a currency, None if it does not exist."""
    return _EXPONENTS.get(currency)


def share(minor: int, basis_points: int) -> int:
    """Return a share of an amount in basis points, rounded half to even in the minor unit."""
    return round(Fraction(minor * basis_points, 10_000))
