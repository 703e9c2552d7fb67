"""A Kubernetes quantity, such as 64Mi or 100m, as a number."""

import re
from decimal import Decimal
from typing import Any

# Kubernetes, apimachinery, resource.Quantity: a number with a suffix, binary or decimal, or an exponent.
_QUANTITY = re.compile(r"\s*\+?(?P<number>\d+\.?\d*|\.\d+)(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[-+]?\d+))?\s*")
_BINARY = {f"{letter}i": Decimal(1024**power) for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {
    letter: Decimal(1000) ** power
    for letter, power in {"n": -3, "u": -2, "m": -1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}.items()
}

# The largest quantity (int64).
_MOST = (1 << 63) - 1


def whole(quantity: Any) -> int:
    """The quantity rounded up to a whole number, for example of bytes; 0 for an invalid one, which other rules refuse."""
    return _rounded_up(quantity, 1)


def thousandths(quantity: Any) -> int:
    """The quantity in thousandths, for example of a CPU, rounded up; 0 for an invalid one."""
    return _rounded_up(quantity, 1000)


def _rounded_up(quantity: Any, times: int) -> int:
    match = _QUANTITY.fullmatch(str(quantity)) if quantity is not None else None
    if match is None:
        return 0
    if match["exponent"]:
        factor = Decimal(10) ** int(match["exponent"][:4])
    else:
        factor = (_BINARY | _DECIMAL).get(match["suffix"] or "", Decimal(1))
    exact = Decimal(match["number"]) * factor * times
    return int(min(Decimal(_MOST), exact.to_integral_value(rounding="ROUND_CEILING")))
