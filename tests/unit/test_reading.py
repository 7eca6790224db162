"""Answers in pieces: what is odd spoils itself alone, by name, and never with more of its value than can be shown."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from evenkeel.errors import (
    NOT_NOW,
    UNREAD,
    NotUnderstood,
    OperatorError,
    Retryable,
    VenueRefused,
)
from venues.hyperliquid.models import (
    WireAssetCtx,
    WireClearinghouseState,
    WireFundingRate,
    WireMeta,
    WireSpotState,
)
from venues.reading import Number, Oddities, Whole, parse_json, read

SUMMARY = {"accountValue": "1", "totalNtlPos": "1", "totalRawUsd": "1", "totalMarginUsed": "1"}


class Bank(BaseModel):
    model_config = ConfigDict(extra="ignore")
    pda: str = Field(validation_alias=AliasChoices("pda", "positionPda"))
    assets: Number
    note: str | None = None
    votes: Whole = 0


class Answer(BaseModel):
    banks: list[Bank]
    by_key: dict[str, Bank] = Field(default_factory=dict)
    total: Number


def position(name: str, **changes: Any) -> dict[str, Any]:
    row = {"coin": name, "szi": "-1", "positionValue": "100", "marginUsed": "10"}
    return {"position": row | {"leverage": {"type": "cross", "value": 3}} | changes}


def state(*rows: Any) -> Any:
    body = {"assetPositions": list(rows), "marginSummary": SUMMARY, "crossMarginSummary": SUMMARY}
    found = read("hyperliquid", "hyperliquid clearinghouseState", WireClearinghouseState, body)
    return found.value.model_copy(update={"lost": found.lost("assetPositions")}), found.odd


def test_an_answer_that_is_not_understood_is_none_of_the_other_errors() -> None:
    odd = NotUnderstood("asgard", "a price of 'NaN'")
    assert not isinstance(odd, Retryable | VenueRefused | OperatorError)
    assert isinstance(odd, UNREAD) and isinstance(odd, NOT_NOW)
    assert str(odd) == "asgard answered what cannot be understood: a price of 'NaN'"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", None, [], {}, True, "many"])
def test_a_number_that_is_none_spoils_its_own_row_alone(value: Any) -> None:
    banks = [{"pda": "a", "assets": "1"}, {"pda": "b", "assets": value}, {"pda": "c", "assets": 2}]
    raw = {"total": "3", "banks": banks}
    found = read("v", "v banks", Answer, raw)
    assert [(one.pda, one.assets) for one in found.value.banks] == [("a", Decimal(1)), ("c", Decimal(2))]
    [odd] = found.odd
    assert (odd.row, odd.field, odd.lost) == ("banks b", "assets", True)
    assert found.lost("banks") == ("b",) and found.lost("others") == ()


def test_a_field_that_nothing_needs_spoils_only_itself_whatever_it_is_called() -> None:
    raw = {"total": "3", "banks": [{"positionPda": "a", "assets": "1", "note": 7, "votes": "x"}]}
    found = read("v", "v banks", Answer, raw)
    [bank] = found.value.banks
    assert (bank.pda, bank.note, bank.votes) == ("a", None, 0)
    assert [str(one) for one in found.odd] == ["banks a note is 7", "banks a votes is 'x'"]
    assert raw["banks"][0]["note"] == 7, "the answer itself is left as it came"  # type: ignore[index]


@pytest.mark.parametrize("row", [None, [], "row", {}, {"pda": "b"}, {"pda": {"no": "name"}, "assets": 1}])
def test_a_row_of_another_kind_is_left_out(row: Any) -> None:
    found = read("v", "v banks", Answer, {"total": 1, "banks": [row, {"pda": "a", "assets": 1}]})
    assert [one.pda for one in found.value.banks] == ["a"]
    assert all(one.lost for one in found.odd)
    assert set(found.lost("banks")) == {"b" if row == {"pda": "b"} else ""}


def test_rows_of_a_dict_are_rows_too() -> None:
    by_key = {"good": {"pda": "a", "assets": 1}, "bad": {"pda": "b"}, "none": None}
    found = read("v", "v banks", Answer, {"total": 1, "banks": [], "by_key": by_key})
    assert list(found.value.by_key) == ["good"]
    assert {one.row for one in found.odd} == {"by_key b", "by_key none"}


def test_what_can_be_left_out_nowhere_is_not_understood_and_named() -> None:
    with pytest.raises(NotUnderstood, match=r"v banks: total is missing"):
        read("v", "v banks", Answer, {"banks": []})
    with pytest.raises(NotUnderstood, match="v banks"):
        read("v", "v banks", Answer, None)
    with pytest.raises(NotUnderstood, match="v banks"):
        read("v", "v banks", list[Bank], {"error": "no"})


def test_a_place_that_has_a_meaning_stays() -> None:
    universe = [{"name": "BTC", "szDecimals": 5, "maxLeverage": 40}, None, {"name": "ODD", "szDecimals": None},
                {"name": "SOL", "szDecimals": 2, "maxLeverage": "many"}]  # fmt: skip
    found = read("hyperliquid", "meta", WireMeta, {"universe": universe})
    assert [one and one.name for one in found.value.universe] == ["BTC", None, None, "SOL"]
    sol = found.value.universe[3]
    assert (sol.sz_decimals, sol.max_leverage) == (2, None)
    assert "universe ODD szDecimals is None (row left out)" in [str(one) for one in found.odd]


def test_a_place_that_the_venue_leaves_empty_is_named() -> None:
    coin = {"name": "SOL", "szDecimals": 2, "maxLeverage": 20}
    found = read("hyperliquid", "hyperliquid meta", WireMeta, {"universe": [coin, None]})
    assert found.value.universe[1] is None
    assert [str(one) for one in found.odd] == ["universe #1 is None (row left out)"]
    prices = read("hyperliquid", "prices", list[WireAssetCtx | None], [None], part="prices")
    assert [str(one) for one in prices.odd] == ["prices #0 is None (row left out)"]


def test_long_values_and_odd_names_are_not_shown() -> None:
    secret = "5Kb8kLf9zgWQnogidDA76MzPL6TsZZY36hWXMssSzNydYXYB9KF5Kb8kLf9zgWQnogidDA76MzPL6TsZZY36hWXMssSz"
    found = read("v", "v banks", Answer, {"total": 1, "banks": [{"pda": secret, "assets": secret}]})
    text = " ".join(str(one) for one in found.odd)
    assert secret not in text and secret[:20] not in text and "characters, not shown" in text


def test_a_new_margin_mode_or_an_odd_figure_of_another_coin_hides_nothing() -> None:
    mode = {"leverage": {"type": "someNewMode", "value": 3}}
    for changes in (mode, {"szi": None}, {"szi": "NaN"}, {"marginUsed": []}):
        seen, _ = state(position("SOL"), position("DOGE", **changes))
        assert seen.szi("SOL") == -1
    seen, odd = state(position("SOL"), position("DOGE", szi=None))
    assert [str(one) for one in odd] == ["assetPositions DOGE position.szi is None (row left out)"]
    with pytest.raises(NotUnderstood, match="DOGE"):
        seen.szi("DOGE")


@pytest.mark.parametrize("changes", [{"szi": "NaN"}, {"szi": None}, {"coin": None}, {"coin": 7}])
def test_a_row_that_is_ours_or_may_be_it_is_not_taken_for_nothing(changes: dict[str, Any]) -> None:
    seen, _ = state(position("SOL", **changes), position("DOGE"))
    assert seen.szi("DOGE") == -1
    with pytest.raises(NotUnderstood):
        seen.szi("SOL")


def test_two_rows_of_one_coin_that_contradict_each_other_are_not_understood() -> None:
    with pytest.raises(NotUnderstood, match="two positions in SOL"):
        state(position("SOL"), position("SOL", szi="-2"))[0].szi("SOL")
    assert state(position("SOL"), position("SOL"))[0].szi("SOL") == -1


def test_spot_usdc_that_is_listed_twice_counts_once_and_never_with_two_totals() -> None:
    row = {"coin": "USDC", "total": "50", "hold": "0"}
    assert WireSpotState.model_validate({"balances": [row, row]}).usdc == 50
    with pytest.raises(NotUnderstood, match="two rows of USDC"):
        WireSpotState.model_validate({"balances": [row, {**row, "total": "51"}]}).usdc  # noqa: B018


def test_an_hour_without_a_premium_and_a_coin_without_a_price_cost_nobody_else_anything() -> None:
    rows = [
        {"coin": "SOL", "fundingRate": "0.0000125", "premium": "0.0001", "time": 1784433600003},
        {"coin": "SOL", "fundingRate": "0.0000125", "premium": "NaN", "time": 1784437200003},
        {"coin": "SOL", "fundingRate": None, "premium": "0", "time": 1784440800003},
    ]
    found = read("hyperliquid", "fundingHistory", list[WireFundingRate], rows)
    assert [one.premium for one in found.value] == [Decimal("0.0001"), None]
    assert [one.at_ms for one in found.odd] == [1784437200003, 1784440800003]
    contexts = [{"funding": "0.0", "oraclePx": "1", "markPx": None}, {"oraclePx": "1", "markPx": "2"}]
    prices = read("hyperliquid", "prices", list[WireAssetCtx | None], contexts).value
    assert prices[0] is None and (prices[1].mark_px, prices[1].funding) == (Decimal(2), None)


def test_json_words_for_what_is_no_number_spoil_their_field_alone() -> None:
    raw = parse_json(
        '{"total": 1.10, "banks": [{"pda": "a", "assets": NaN}, {"pda": "b", "assets": -Infinity}]}'
    )
    found = read("v", "v banks", Answer, raw)
    assert found.value.total == Decimal("1.10") and not found.value.banks and len(found.odd) == 2
    for text in ("", "<html>", "[" * 100_000):
        with pytest.raises(ValueError):
            parse_json(text)


def test_what_is_odd_stands_until_the_next_answer_of_its_source() -> None:
    odd = Oddities()
    raw = {"total": 1, "banks": [{"pda": "b", "assets": None}]}
    odd.read("v", "v banks", Answer, raw)
    assert odd.words() == {"v banks": "banks b assets is None (row left out)"}
    with pytest.raises(NotUnderstood):
        odd.read("v", "v banks", Answer, None)
    assert "v banks" in odd.words()["v banks"]
    odd.read("v", "v banks", Answer, {"total": 1, "banks": []})
    assert odd.words() == {"v banks": ""}


def test_rows_of_a_list_that_did_not_reach_so_far_back_stand_on() -> None:
    odd, rows = Oddities(), [{"coin": "SOL", "fundingRate": None, "time": 5}]
    odd.read("v", "rates", list[WireFundingRate], rows, since_ms=0)
    odd.read("v", "rates", list[WireFundingRate], [], since_ms=6)
    assert odd.words()["rates"]
    odd.read("v", "rates", list[WireFundingRate], [], since_ms=5)
    assert not odd.words()["rates"]


def test_a_thousand_odd_rows_make_one_short_text() -> None:
    odd = Oddities()
    odd.read("v", "v banks", Answer, {"total": 1, "banks": [{"pda": f"b{n}"} for n in range(1000)]})
    assert odd.words()["v banks"].endswith("and 980 more") and len(odd.words()["v banks"]) < 2000
