"""Liquidations and checkpoints: stored once, with the leg that is left, and only ever forward."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from evenkeel.legs import LegSide
from evenkeel.types import VenueName
from state.carry.liquidation_models import Liquidation
from state.carry.models import Leg
from state.store import Store
from tests.databases import KINDS, ManualClock, database


def seizure(ref: str, before: str, after: str, at_ms: int = 5) -> Liquidation:
    return Liquidation(
        position_id="P",
        ref=ref,
        at_ms=at_ms,
        tokens_before=Decimal(before),
        tokens_after=Decimal(after),
        debt_before_usd=Decimal(100),
        debt_after_usd=Decimal(80),
        token_price_usd=Decimal("150.5"),
        sol_price_usd=Decimal("150.5"),
        redemption_rate=Decimal(1),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_liquidation_is_booked_once_with_the_leg_that_it_left(kind: str, tmp_path: Path) -> None:
    with database(kind, tmp_path) as url:
        store = Store.open(url, ManualClock())
        store.carry.create_position("P", asset="SOL", leverage=Decimal(3))
        leg = Leg(
            position_id="P",
            side=LegSide.LONG,
            venue=VenueName.ASGARD,
            ref="pda",
            asset="SOL",
            qty=Decimal(2),
            opened_ms=1,
        )
        store.carry.put_leg(leg)
        left = leg.shrunk(Decimal("0.7"), 9)
        rows = [seizure("a", "2", "1.5"), seizure("b", "1.5", "1.3", at_ms=6)]
        assert store.carry.record_liquidations(rows, left, "seized") == 2
        assert store.carry.record_liquidations(rows, left, "seized") == 0
        first, second = store.carry.liquidations("P")
        assert (first.seized_tokens, first.repaid_usd) == (Decimal("0.5"), Decimal(20))
        assert second.tokens_after == Decimal("1.3")
        found = store.carry.leg("P", LegSide.LONG)
        assert found is not None and found.qty == Decimal("1.3")
        assert [one.note for one in store.transitions("leg")][-1] == "seized; qty 2 -> 1.3"
        store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_only_moves_forward(kind: str, tmp_path: Path) -> None:
    with database(kind, tmp_path) as url:
        store = Store.open(url, ManualClock())
        assert store.checkpoint("hyperliquid") is None
        store.move_checkpoint("hyperliquid", 100, {"rows": 3})
        store.move_checkpoint("hyperliquid", 50, {"rows": 9})
        found = store.checkpoint("hyperliquid")
        assert found is not None and (found.at_ms, found.detail) == (100, {"rows": 3})
        store.move_checkpoint("hyperliquid", 200)
        again = store.checkpoint("hyperliquid")
        assert again is not None and again.at_ms == 200
        store.close()
