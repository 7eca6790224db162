"""Units and shapes of Asgard's wire: what is taken, what is refused, and what an order looks like on the
wire.
"""

from __future__ import annotations

import json
from decimal import Decimal as D

import httpx
import pytest
from pydantic import ValidationError

from evenkeel.errors import NotUnderstood, VenueRefused
from venues.asgard.client import AsgardClient, BuildBlob
from venues.asgard.legs import check_quantity_unit, leg_view
from venues.asgard.mints import SOL, TOKENS, USDC
from venues.asgard.models import (
    LiquiditySource,
    LivePosition,
    PositionRecord,
    UnitChanged,
    check_health_unit,
)
from venues.asgard.orders import OpenLong, parse_order
from venues.asgard.prices import known_prices
from venues.asgard.venue import AsgardVenue

WALLET = "wallet"


def live(
    health: object = "16.7", tokens: object = "15", debt: object = "2000", **changes: object
) -> LivePosition:
    wire = {
        "accountAddress": "pda",
        "authority": WALLET,
        "summary": {
            "healthFactor": health,
            "riskMetrics": {"liquidationBuffer": 3},
            "booksAndBalances": {
                "balances": [
                    {"bankA": {"mint": SOL.mint, "assetsQt": tokens, "liabsQt": 0, "assetsUsd": 1}},
                    {"bankB": {"mint": USDC.mint, "assetsQt": 0, "liabsQt": debt}},
                ]
            },
        },
        "liquidationEvents": [],
    } | changes
    return LivePosition.parse("pda", wire)


def view(position: LivePosition, max_ltv: D | None = D("0.74")) -> object:
    return leg_view(position, 1, WALLET, D(200), D(1), max_ltv, None, 7)


def test_a_three_times_position_as_a_leg() -> None:
    leg = view(live())
    assert leg is not None
    assert (leg.qty, leg.notional_usd, leg.equity_usd, leg.leverage) == (D(15), D(3000), D(1000), D(3))
    assert (leg.liquidation_distance, leg.liquidation_price_usd) == (D("0.167"), D("166.6"))
    assert (leg.debt_usd, leg.exposure_sol, leg.protocol, leg.ref) == (D(2000), D(15), 1, "pda")


@pytest.mark.parametrize("health", ["-0.1", "100.1", "4094"])
def test_health_outside_a_percentage_is_refused(health: str) -> None:
    with pytest.raises(UnitChanged):
        live(health)


def test_health_as_a_fraction_is_noticed_on_a_fresh_position() -> None:
    with pytest.raises(UnitChanged, match="fraction"):
        view(live("0.167"))


def test_a_position_truly_near_liquidation_is_not_mistaken_for_a_unit_change() -> None:
    close = view(live("0.9", debt="2376"))  # loan-to-value 79.2 %, threshold 80 %
    assert close is not None and close.liquidation_distance == D("0.009")


def test_health_that_implies_an_impossible_threshold_is_refused() -> None:
    with pytest.raises(UnitChanged, match="above 1"):
        check_health_unit("pda", D(60), D("0.6"), D("0.74"))


def test_a_leg_that_is_not_ours_or_not_our_kind_is_not_understood() -> None:
    with pytest.raises(NotUnderstood, match="belongs to"):
        view(live(authority="attacker"))
    unknown = live()
    balances = dict(unknown.balances)
    balances["bankC"] = balances["bankA"].model_copy(update={"assets": D(1)})
    with pytest.raises(NotUnderstood, match="2 collaterals"):
        view(unknown.model_copy(update={"balances": balances}))


def test_an_empty_position_is_no_leg_and_one_without_debt_has_no_liquidation() -> None:
    assert view(live(100, tokens=0, debt=0)) is None
    free = view(live(100, debt=0))
    assert free is not None and free.liquidation_distance is None and free.leverage == 1


def record(**changes: object) -> PositionRecord:
    return PositionRecord.model_validate(
        {
            "id": 7,
            "positionPda": "pda",
            "protocol": 1,
            "tokenATokenMint": SOL.mint,
            "tokenBTokenMint": USDC.mint,
            "tokenAAmountUIEntry": "15",
            "somethingNew": {"x": 1},
        }
        | changes
    )


def test_quantities_are_whole_tokens_as_the_database_has_them() -> None:
    check_quantity_unit(live(), record())
    with pytest.raises(UnitChanged, match="whole tokens"):
        check_quantity_unit(live(tokens=15_000_000_000), record())
    assert record(tokenAAmountUICurrent="12.5").token_a_amount == D("12.5")
    assert record(positionPDA="x", positionPda="y").pda == "y"


def source(**changes: object) -> LiquiditySource:
    return LiquiditySource.model_validate(
        {
            "lendingProtocol": 1,
            "isActive": True,
            "tokenABank": "a",
            "tokenBBank": "b",
            "longMaxLeverage": D("3.84"),
            "tokenBMaxBorrowCapacity": "365619.18",
            "tokenALendingApyRate": 0.05,
            "tokenBBorrowingApyRate": 0.06,
            "tokenAOracle": {"opaque": True},
        }
        | changes
    )


def test_capacities_are_strings_and_rates_fractions() -> None:
    kamino = source()
    assert kamino.token_b_max_borrow_capacity == D("365619.18") and kamino.can_resize
    assert kamino.max_ltv is not None and abs(kamino.max_ltv - D("0.7396")) < D("0.0001")
    with pytest.raises(ValidationError, match="credible"):
        source(tokenBBorrowingApyRate=6.5)


def test_only_kamino_can_be_resized() -> None:
    assert [AsgardVenue.can_resize(protocol) for protocol in range(4)] == [False, True, False, False]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"signedTxs": None},
        {"signedTxs": []},
        {"signedTxs": "AA"},
        {"signedTxs": [1]},
        {"signedTxs": ["AA", None]},
        {"signedTxs": ["AA"] * 5},
    ],
)
def test_a_build_without_a_plain_list_of_transactions_fails_closed(body: object) -> None:
    with pytest.raises(VenueRefused):
        BuildBlob(body)


def test_the_blob_is_handed_back_whole_and_shows_only_its_keys() -> None:
    body = {"signedTxs": ["unsigned"], "odd": {"deep": [1, 2.5, None]}, "positionPda": "p"}
    blob = BuildBlob(body)
    assert blob.with_signed(["signed"]) == body | {"signedTxs": ["signed"]}
    assert body["signedTxs"] == ["unsigned"]
    assert blob.hint("positionPDA", "positionPda") == "p"
    assert "unsigned" not in repr(blob) and "odd" in repr(blob)


def test_an_order_on_the_wire_is_in_base_units_and_survives_storage() -> None:
    order = OpenLong(
        asset="SOL",
        protocol=1,
        token_a_bank="a",
        token_b_bank="b",
        collateral_usdc=D("1000.1234567"),
        leverage=D(3),
    )
    assert parse_order(order.model_dump(mode="json")) == order
    body = order.body(WALLET)
    assert body["collateralAmountNative"] == 1_000_123_456 and isinstance(body["collateralAmountNative"], int)
    assert (body["direction"], body["collateralType"], body["collateralMint"]) == (0, 1, USDC.mint)
    assert "jitoTipLamport" in body and "jitoTipLamports" not in body


@pytest.mark.parametrize(
    "order",
    [
        {"op": "partial_close", "close_percentage": 100},
        {"op": "partial_close", "close_percentage": 0},
        {"op": "deleverage", "target_leverage": "0.9"},
        {"op": "increase_leverage", "target_leverage": "5"},
        {"op": "repay_debt", "repay_usdc": "0"},
        {"op": "melt"},
        {},
    ],
)
def test_orders_out_of_bounds_do_not_parse(order: dict) -> None:
    with pytest.raises(ValidationError):
        parse_order({"asset": "SOL", "protocol": 1, "position_pda": "pda"} | order)


def test_an_unknown_asset_does_not_parse() -> None:
    with pytest.raises(KeyError):
        parse_order({"op": "close_long", "asset": "DOGE", "protocol": 1, "position_pda": "pda"})


def test_the_mint_table_is_the_corrected_one() -> None:
    assert TOKENS["jitoSOL"].mint == "J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn"
    assert TOKENS["INF"].mint == "5oVNBeEEQvYi1cX3ir8Dx5n1P7pdxydbGF2X4TxVusJm"
    assert len({one.mint for one in TOKENS.values()}) == len(TOKENS)


def test_two_balances_of_one_bank_that_differ_are_not_understood_and_the_same_twice_is_one() -> None:
    held, owed = (
        {"bankA": {"mint": SOL.mint, "assetsQt": 15, "liabsQt": 0}},
        {"bankB": {"mint": USDC.mint, "assetsQt": 0, "liabsQt": 2000}},
    )
    nought = {"bankA": {**held["bankA"], "assetsQt": 0}}

    def read(*rows: object) -> LivePosition:
        return live(summary={"healthFactor": "16.7", "booksAndBalances": {"balances": list(rows)}})

    assert read(held, owed, held).balances == read(owed, held).balances
    for rows in ((held, owed, nought), (nought, held, owed)):
        with pytest.raises(NotUnderstood, match="bankA"):
            read(*rows)


class Standing:
    """A clock that stands."""

    def now_ms(self) -> int:
        return 1_757_203_200_000

    async def sleep(self, seconds: float) -> None: ...

    async def refresh(self) -> None: ...


def peer(status: int, text: str) -> AsgardClient:
    """A service that answers this to everything."""
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=text))
    return AsgardClient("http://venue.test", Standing(), api_key="k", transport=transport)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"error":' * 100_000, "1" * 5000, "", "nothing"])
async def test_an_answer_that_is_no_json_ends_as_an_error_of_ours(text: str) -> None:
    with pytest.raises(NotUnderstood):
        await peer(200, text).build("/close-position", {})
    with pytest.raises(VenueRefused):
        await peer(400, text).build("/close-position", {})


@pytest.mark.parametrize("second", [4, "0.5", 2440])
async def test_a_token_listed_with_two_prices_has_none_and_is_named(second: object) -> None:
    rows = [
        {"symbol": one.symbol, "mint": one.mint, "decimals": one.decimals, "price": price}
        for one, price in ((SOL, 200), (TOKENS["jitoSOL"], 244), (TOKENS["jitoSOL"], second), (SOL, "2e2"))
    ]
    client = peer(200, json.dumps({"tokens": rows}))
    assert await known_prices(client) == {"SOL": 200}
    assert "jitoSOL" in client.oddities.words()["asgard /token-metadata"]
