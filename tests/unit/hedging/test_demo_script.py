"""What the demo of hedged market making plays: fills of two days that end whole."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.demo.hedging_script import (
    CLOSE_MS,
    END_MS,
    EXACT,
    NEXT_OPEN_MS,
    OPEN_MS,
    PRICES,
    START_MS,
    price_at,
    script,
)


def test_each_symbols_fills_add_up_to_whole_shares_and_the_last_one_is_above_any_threshold() -> None:
    fills = script(7, 75)
    assert len(fills) == 300
    for symbol in PRICES:
        net = Decimal(0)
        for fill in fills:
            if fill.symbol == symbol:
                net = EXACT.add(net, fill.tokens if fill.side == "buy" else -fill.tokens)
                last = fill
        assert net == net.to_integral_value()
        assert last.tokens >= 3


def test_fills_happen_before_the_open_overnight_and_in_session() -> None:
    times = [fill.at_ms for fill in script(7, 16)]
    assert times == sorted(times) and times[0] > START_MS and times[-1] < END_MS
    assert sum(at_ms < OPEN_MS for at_ms in times) == 8
    assert sum(CLOSE_MS < at_ms < NEXT_OPEN_MS for at_ms in times) == 8
    assert not any(CLOSE_MS - 60_000 < at_ms < CLOSE_MS for at_ms in times)


def test_a_seed_is_one_script_and_too_few_fills_are_refused() -> None:
    assert script(7, 16) == script(7, 16) != script(8, 16)
    with pytest.raises(ValueError, match="too few"):
        script(7, 7)


def test_prices_are_in_cents_and_of_known_symbols_only() -> None:
    assert price_at("COIN", START_MS) == (price_at("COIN", START_MS) or Decimal(0)).quantize(Decimal("0.01"))
    assert price_at("XYZ", START_MS) is None
