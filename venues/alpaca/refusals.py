"""What Alpaca's refusals mean. Its codes are overloaded, so that code and message decide together."""

from __future__ import annotations

from enum import StrEnum

NOT_FOUND_CODE = 40410000


class Refusal(StrEnum):
    """Why an order is not taken, in words for a person."""

    DUPLICATE = "an order with this client id is there already"
    NO_CASH = "not enough buying power"
    NO_SHARES = "not so many shares are held"
    NO_SHORT = "the account may not sell short"
    TOO_SMALL = "below the least order of one dollar"
    NOT_FRACTIONABLE = "the symbol is traded in whole shares only"
    WASH_TRADE = "an order of the other side is open in the same symbol"
    NOT_TRADABLE = "the symbol cannot be ordered"
    NO_KEY = "the key may not do that"
    OTHER = "refused"


_MEANINGS: tuple[tuple[frozenset[int], tuple[str, ...], Refusal], ...] = (
    (frozenset({422, 400, 409}), ("client_order_id must be unique",), Refusal.DUPLICATE),
    (
        frozenset({403, 422}),
        ("insufficient buying power", "insufficient balance", "insufficient day trading"),
        Refusal.NO_CASH,
    ),
    (frozenset({403, 422}), ("insufficient qty available",), Refusal.NO_SHARES),
    (frozenset({403, 422}), ("not allowed to short", "cannot be sold short"), Refusal.NO_SHORT),
    (frozenset({403, 422}), ("minimal amount of order", "notional amount must be >="), Refusal.TOO_SMALL),
    (
        frozenset({403, 422}),
        ("not fractionable", "qty must be integer", "fractional trading"),
        Refusal.NOT_FRACTIONABLE,
    ),
    (frozenset({403, 422}), ("wash trade", "while a short sell order is open"), Refusal.WASH_TRADE),
    (
        frozenset({403, 404, 422}),
        ("not tradable", "asset not found", "could not find asset", "is not active"),
        Refusal.NOT_TRADABLE,
    ),
    (
        frozenset({401, 403}),
        ("not authorized", "unauthorized", "forbidden", "access key verification"),
        Refusal.NO_KEY,
    ),
)
"""By HTTP status and words of the message; the first that fits. 403 and 40310000 alone say nothing."""


def meaning(status: int, code: int | None, message: str) -> Refusal:
    """Return what a refusal means: HTTP status, the code of its body and its message."""
    said = message.lower()
    for statuses, words, found in _MEANINGS:
        if status in statuses and any(word in said for word in words):
            return found
    return Refusal.NO_KEY if status == 401 or (code is not None and code // 10_000 == 4011) else Refusal.OTHER


def in_words(status: int, code: int | None, message: str) -> str:
    """A refusal as a person reads it: what it means, and the broker's own wording."""
    numbers = f"HTTP {status}" + (f", code {code}" if code is not None else "")
    return f"{meaning(status, code, message)}: {message or 'no message'} ({numbers})"
