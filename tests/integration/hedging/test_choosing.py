"""Two orders at Schwab may be ours and none says so: a person chooses, and everything else waits for it."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from evenkeel.errors import LostRace, OperatorError
from tasks.hedging.choosing import candidates_of, choose_order
from tasks.hedging.orders import UNCLEAR
from tests.chaos.hedging.bed import Bed, hedging_bed
from tests.chaos.hedging.crossing import new_ledger
from twins.faults import Fault

D = Decimal


async def doubted(bed: Bed) -> str:
    """An order whose answer is lost, and a person's at the website that looks the same; return the hedge."""
    bed.trade("AAPL", "sell", "4")
    bed.plan.add(Fault("schwab", "drop_answer", "order:place"))
    listing = Fault("schwab", "http_500", "order:list", times=-1)
    bed.plan.add(listing)
    await bed.life()
    listing.times = 0
    assert bed.schwab is not None
    bed.schwab.control("foreign", {"symbol": "AAPL", "instruction": "BUY", "quantity": 4})
    for _ in range(3):
        bed.later(70)
        await bed.life()
    [order] = bed.store.hedging.open_orders()
    assert UNCLEAR in {one.kind for one in bed.store.alerts(open_only=True)}
    assert len(bed.schwab.book.orders) == 2
    return order.intent_id


def ids(bed: Bed) -> list[str]:
    assert bed.schwab is not None
    return [str(one) for one in sorted(bed.schwab.book.orders)]


async def test_what_is_chosen_is_booked_once_and_the_audit_log_has_why(tmp_path: Path) -> None:
    async with hedging_bed(new_ledger(tmp_path), "schwab", tmp_path) as bed:
        hedge = await doubted(bed)
        ours, theirs = ids(bed)
        async with bed.desk() as at:
            found = await candidates_of(at, hedge)
            assert (sorted(one.ref for one in found.orders), found.is_over) == ([ours, theirs], True)
            intent = await choose_order(at, hedge, ours, "entered at the time of our call", None)
        assert intent.state == "CONFIRMED"
        [row] = bed.store.hedging.hedges("AAPL")
        assert (row.order_ref, row.qty, bed.store.hedging.exposure("AAPL").open_shares) == (ours, 4, 0)
        [said] = [one for one in bed.store.transitions("intent", hedge) if one.to_state == "chosen"]
        assert "entered at the time of our call" in said.note and theirs in said.note
        assert not {one.kind for one in bed.store.alerts(open_only=True)} & {UNCLEAR}
        await bed.life()
        assert len(ids(bed)) == 2, "nothing is sent any more"


async def test_none_of_them_is_a_dead_order_and_what_is_open_is_hedged_anew(tmp_path: Path) -> None:
    async with hedging_bed(new_ledger(tmp_path), "schwab", tmp_path) as bed:
        hedge = await doubted(bed)
        assert bed.schwab is not None
        bed.schwab.book.cancel(bed.schwab.book.next_id - 1)
        async with bed.desk() as at:
            intent = await choose_order(at, hedge, "none", "both were entered by hand", None)
        assert intent.state == "FAILED" and not bed.store.hedging.hedges("AAPL")
        await bed.life()
        bed.later(40)
        await bed.life()
        assert len(ids(bed)) == 3 and not bed.store.hedging.exposure("AAPL").open_shares


async def test_what_makes_no_sense_is_refused_in_one_line_and_changes_nothing(tmp_path: Path) -> None:
    async with hedging_bed(new_ledger(tmp_path), "schwab", tmp_path) as bed:
        hedge = await doubted(bed)
        ours, _ = ids(bed)
        before = (bed.store.intent(hedge), bed.store.attempts_of(hedge))
        async with bed.desk() as at:
            for asked, order, reason, why in (
                ("hedge-nobodys", ours, "because of that", "no open hedge is called 'hedge-nobodys'"),
                (hedge, "4711", "because of that", "order '4711' is not among those that may be"),
                (hedge, ours, "", "the reason '' says too little"),
            ):
                with pytest.raises(OperatorError, match=why) as refused:
                    await choose_order(at, asked, order, reason, None)
                assert "\n" not in str(refused.value)
        assert before == (bed.store.intent(hedge), bed.store.attempts_of(hedge))


async def test_where_the_broker_has_our_number_there_is_nothing_to_choose(tmp_path: Path) -> None:
    async with hedging_bed(new_ledger(tmp_path), "alpaca", tmp_path) as bed:
        bed.fault("alpaca", "slow", "order:.*", seconds=600)
        bed.trade("AAPL", "sell", "4")
        await bed.life()
        [order] = bed.store.hedging.open_orders()
        async with bed.desk() as at:
            with pytest.raises(OperatorError, match="finds its orders by our own id"):
                await candidates_of(at, order.intent_id)


async def test_the_command_shows_them_and_chooses_one_while_nobody_hedges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hedging_bed(new_ledger(tmp_path), "schwab", tmp_path) as bed:
        hedge = await doubted(bed)
        ours, theirs = ids(bed)
        monkeypatch.setenv("EVENKEEL_CONFIG", str(bed.config()))
        for name, value in bed.environment().items():
            monkeypatch.setenv(name, value)

        async def asked(*words: str) -> tuple[int, str, BaseException | None]:
            found = await asyncio.to_thread(CliRunner().invoke, app, ["hedging", "choose", *words, "--json"])
            return found.exit_code, found.stdout, found.exception

        code, text, _ = await asked(hedge)
        assert code == 0 and sorted(one["ref"] for one in json.loads(text)["orders"]) == [ours, theirs]
        async with bed.desk() as at, at.desk.exclusive(at.lease, "hedging"):
            _, _, why = await asked(hedge, ours, "--reason", "the earlier one")
            assert isinstance(why, LostRace) and "end it first" in str(why)
        code, text, _ = await asked(hedge, ours, "--reason", "the earlier one")
        assert code == 0 and (json.loads(text)["state"], json.loads(text)["filled"]) == ("CONFIRMED", "4")
