"""One reading that nothing else speaks for closes nothing; what a frozen one hides is worked out by ourselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from solders.account import Account
from solders.pubkey import Pubkey

from evenkeel.errors import UNREAD
from flows.carry.exit import ExitRequest, exit_position
from tests.carry.rig import Rig, story_rig, watched
from venues.asgard.mints import TOKENS

JITOSOL: dict[str, Any] = {"asset": "jitoSOL", "protocol": 1}


def open_kinds(rig: Rig) -> set[str]:
    return {one.kind for one in rig.desk.store.alerts(open_only=True)}


@contextmanager
def listed_prices(rig: Rig, **prices: float | None) -> Iterator[None]:
    """Asgard lists these prices whatever the market does."""
    listings = rig.twins.asgard._listings
    real = listings._token

    def token(one: Any) -> dict[str, Any]:
        row = real(one)
        return {**row, "price": prices[one.symbol]} if one.symbol in prices else row

    listings._token = token  # type: ignore[method-assign]
    try:
        yield
    finally:
        del listings._token


@pytest.mark.parametrize("protocol", [0, 1, 2])
async def test_a_frozen_health_factor_does_not_hide_a_fall(tmp_path: Path, protocol: int) -> None:
    """On the way to −25 % the position is resized or closed before its lender liquidates it."""
    async with story_rig(tmp_path, strategy={"poll_interval_s": 120}) as rig:
        position_id = await rig.entered(asset="SOL", protocol=protocol)
        views = rig.twins.asgard._views
        real = views._live
        frozen: dict[str, Any] = {}

        def live(pda: str, *known: Any) -> dict[str, Any]:
            row = real(pda, *known)
            row["summary"]["healthFactor"] = frozen.setdefault(pda, row["summary"]["healthFactor"])
            return row

        views._live = live  # type: ignore[method-assign]
        said: set[str] = set()
        for percent in range(1, 26):
            rig.market(sol_price=200.0 * (1 - percent / 100))
            result = await watched(rig, position_id, 1)
            said |= open_kinds(rig)
            if result.status == "CLOSED":
                break
        assert not rig.control("asgard", "ledger")["events"], "nothing was liquidated"
        assert "distance_gap:long" in said
        assert result.status == "CLOSED" or result.actions or len(rig.executions()) > 1


async def test_a_price_of_zero_is_no_reason_to_leave(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        await watched(rig, position_id, 10)
        with listed_prices(rig, jitoSOL=0):
            result = await watched(rig, position_id, 180)
        assert result.status == "OPEN" and not result.actions, result
        assert "lst_peg" in open_kinds(rig)


async def test_prices_that_stand_still_while_the_market_moves_are_no_reason_to_leave(tmp_path: Path) -> None:
    """Two of three sources agree, and the lender values the collateral by the market."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        await watched(rig, position_id, 10)
        with listed_prices(rig, SOL=200.0, jitoSOL=244.0):
            rig.market(sol_price=206.0)
            result = await watched(rig, position_id, 120)
            assert result.status == "OPEN" and not result.actions, result
            assert "price_deviation" in open_kinds(rig)
        with listed_prices(rig, jitoSOL=244.0):
            rig.market(sol_price=208.0)
            result = await watched(rig, position_id, 120)
        assert result.status == "OPEN" and not result.actions, result


ROW = "assetPositions.[position.coin=SOL].position."


@pytest.mark.parametrize(
    ("call", "path", "scale", "said"),
    [
        ("info:metaAndAssetCtxs", "1.5.oraclePx", "0.1", "odd answer"),
        ("info:metaAndAssetCtxs", "1.5.oraclePx", "0.85", "odd answer"),
        ("info:metaAndAssetCtxs", "1.5.oraclePx", "10", "odd answer"),
        ("info:metaAndAssetCtxs", "1.5.markPx", "0.1", "odd answer"),
        ("info:metaAndAssetCtxs", "1.5.markPx", "1.05", "odd answer"),
        ("info:clearinghouseState", ROW + "positionValue", "10", "not_understood"),
        ("info:clearinghouseState", ROW + "positionValue", "0.1", "not_understood"),
        ("GET /token-metadata", "tokens.[symbol=SOL].price", "0.1", "price_deviation"),
        ("GET /token-metadata", "tokens.[symbol=jitoSOL].price", "0.1", "lst_peg"),
        ("GET /token-metadata", "tokens.[symbol=jitoSOL].price", "10", "lst_peg"),
    ],
)
async def test_one_price_far_from_all_others_is_no_reason_to_leave(
    tmp_path: Path, call: str, path: str, scale: str, said: str
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        await watched(rig, position_id, 10)
        venue = "hyperliquid" if call.startswith("info:") else "asgard"
        rig.fault(venue, "field", call, times=-1, path=path, scale=scale)
        result = await watched(rig, position_id, 95)
        assert result.status == "OPEN" and not result.actions, result
        rig.assert_hedged("0.01")
        [alert, *_] = [one for one in rig.desk.store.alerts(open_only=True) if one.kind == said]
        field = path.rpartition(".")[2]
        assert said not in ("odd answer", "not_understood") or field in alert.text


@pytest.mark.parametrize("price", ["201.0", "0.0", "-0", "150.0", "2000.0"])
async def test_a_liquidation_price_that_jumps_alone_is_not_believed(tmp_path: Path, price: str) -> None:
    """Size, entry price, mark and account value stand as they stood: our own distance counts."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        await watched(rig, position_id, 10)
        path = f"{ROW}liquidationPx"
        rig.fault("hyperliquid", "field", "info:clearinghouseState", times=-1, path=path, value=price)
        result = await watched(rig, position_id, 95)
        assert result.status == "OPEN" and not result.actions, result
        rig.assert_hedged("0.01")
        assert "distance_gap:short" in open_kinds(rig)
        rig.heal()
        await watched(rig, position_id, 40)
        assert "distance_gap:short" not in open_kinds(rig)


@pytest.mark.parametrize("scale", ["0", "10", "100", "-1"])
async def test_a_maintenance_that_jumps_alone_is_not_believed(tmp_path: Path, scale: str) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        await watched(rig, position_id, 10)
        path = "crossMaintenanceMarginUsed"
        rig.fault("hyperliquid", "field", "info:clearinghouseState", times=-1, path=path, scale=scale)
        result = await watched(rig, position_id, 95)
        assert result.status == "OPEN" and not result.actions, result
        rig.assert_hedged("0.01")
        said = [one.text for one in rig.desk.store.alerts(open_only=True) if one.kind == "odd answer"]
        assert path in " ".join(said) or scale in ("0", "-1")


async def test_a_short_whose_sign_is_wrong_is_kept_and_can_be_closed(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy={"breach_poll_interval_s": 20}) as rig:
        position_id = await rig.entered(**JITOSOL)
        await watched(rig, position_id, 10)
        path = f"{ROW}szi"
        rig.fault("hyperliquid", "field", "info:clearinghouseState", times=-1, path=path, scale="-1")
        result = await watched(rig, position_id, 700)
        assert result.status == "OPEN", result
        rig.assert_hedged("0.01")
        assert "absence unproved" in open_kinds(rig)
        with suppress(*UNREAD):  # it ends once the account can be read
            await exit_position(rig.desk, ExitRequest(position_id=position_id, emergency=True))
        assert rig.flat


@pytest.mark.parametrize(
    "odd",
    [{258: (1).to_bytes(8, "little")}, {258: (2**63).to_bytes(8, "little")},
     {266: (60_000_000 * 10**9).to_bytes(8, "little")}, {162: bytes(32)}],
    ids=["no lamports", "huge", "ten times the supply", "another token"],
)  # fmt: skip
async def test_a_pools_books_that_are_wrong_at_once_trade_no_hedge_away(
    tmp_path: Path, odd: dict[int, bytes]
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        await watched(rig, position_id, 10)
        pool, chain = Pubkey.from_string(str(TOKENS["jitoSOL"].pool)), rig.twins.chain
        old = chain.account(pool)
        assert old is not None
        data = bytearray(old.data)
        for at, value in odd.items():
            data[at : at + len(value)] = value
        rig.on_twins(lambda: chain.set_account(pool, Account(old.lamports, bytes(data), old.owner)))
        result = await watched(rig, position_id, 95)
        assert result.status == "OPEN" and not result.actions, result
        rig.assert_hedged("0.01")
        [alert] = [one for one in rig.desk.store.alerts(open_only=True) if one.kind == "lst_peg"]
        assert "redemption rate" in alert.text


async def test_a_short_that_is_not_shown_and_not_proved_gone_keeps_the_long(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        await watched(rig, position_id, 10)
        rig.fault("hyperliquid", "stale", "info:clearinghouseState", times=-1, age_s="3600")
        result = await watched(rig, position_id, 100)
        assert result.status == "OPEN", result
        rig.assert_hedged("0.01")
        assert "absence unproved" in open_kinds(rig)
        rig.heal()
        assert (await watched(rig, position_id, 40)).status == "OPEN"
        assert "absence unproved" not in open_kinds(rig)


UNSHOWN: dict[str, Any] = {"path": "assetPositions.[position.coin=SOL].position.coin", "value": "SOL2"}
"""The account names our coin as nobody did before."""
NO_FILLS: dict[str, Any] = {"path": "", "value": []}


async def test_a_short_that_its_own_fills_lead_to_is_kept_however_long_it_is_not_shown(
    tmp_path: Path,
) -> None:
    async with story_rig(tmp_path, strategy={"breach_poll_interval_s": 20}) as rig:
        position_id = await rig.entered(**JITOSOL)
        rig.fault("hyperliquid", "field", "info:clearinghouseState", times=-1, **UNSHOWN)
        result = await watched(rig, position_id, 700)
        assert result.status == "OPEN", result
        rig.assert_hedged("0.01")
        assert "absence unproved" in open_kinds(rig)


async def test_a_short_that_is_not_shown_is_bought_back_before_the_long_is_sold(tmp_path: Path) -> None:
    """Nothing is proved for ten minutes; an order that can only reduce finds it."""
    async with story_rig(tmp_path, strategy={"breach_poll_interval_s": 20}) as rig:
        position_id = await rig.entered(**JITOSOL)
        rig.fault("hyperliquid", "field", "info:clearinghouseState", times=-1, **UNSHOWN)
        rig.fault("hyperliquid", "field", "info:userFills.*", times=-1, **NO_FILLS)
        result = await watched(rig, position_id, 590)
        assert result.status == "OPEN", result
        await watched(rig, position_id, 60)
        assert rig.short_qty() == 0, "the first order went to the leg that nobody saw"
        rig.heal()
        rig.later(130)
        assert (await watched(rig, position_id, 120)).status == "CLOSED"
        assert rig.flat


async def test_an_exit_buys_back_a_short_that_the_account_does_not_show(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        rig.fault("hyperliquid", "field", "info:clearinghouseState", times=-1, **UNSHOWN)
        await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert rig.flat
        rig.heal()
        rig.assert_clean(await rig.recovered())
        assert rig.status(position_id) == "CLOSED"


async def test_a_short_that_its_venue_refuses_to_reduce_is_gone_though_no_fill_says_so(
    tmp_path: Path,
) -> None:
    """The venue took it, and lists nothing of it."""
    async with story_rig(tmp_path, strategy={"breach_poll_interval_s": 20}) as rig:
        position_id = await rig.entered(**JITOSOL)
        rig.trade_by_hand("SOL", str(rig.short_qty()))
        rig.fault("hyperliquid", "field", "info:userFills.*", times=-1, **NO_FILLS)
        result = await watched(rig, position_id, 800)
        assert result.status == "CLOSED", result
        assert rig.flat
        assert "leg vanished" in open_kinds(rig)


async def test_an_equity_that_its_own_liquidation_price_contradicts_is_not_believed(tmp_path: Path) -> None:
    """Account value nought, everything else as it was, and no movement of money."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        client = rig.desk.short.client  # type: ignore[attr-defined]
        real = client.clearinghouse_state

        async def drained(user: str) -> Any:
            state = await real(user)
            nought = {"account_value": Decimal(0)}
            return state.model_copy(
                update={
                    "margin_summary": state.margin_summary.model_copy(update=nought),
                    "cross_margin_summary": state.cross_margin_summary.model_copy(update=nought),
                }
            )

        client.clearinghouse_state = drained
        result = await watched(rig, position_id, 95)
        assert result.status == "OPEN" and not result.actions, result
        [alert] = [one for one in rig.desk.store.alerts(open_only=True) if one.kind == "odd answer"]
        assert "account value of 0.00 USD" in alert.text
        rig.assert_hedged("0.01")
