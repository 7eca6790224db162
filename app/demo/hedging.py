"""`make demo-hedging`: two days of fills of four symbols, each hedged at another broker, with what goes wrong on the way."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console

from analytics.hedging.buckets import Bucket
from analytics.hedging.pnl import Pnl, bps, pnl, total
from app.demo.hedging_desks import DESKS, Instance, opened, written
from app.demo.hedging_rebalance import rebalanced
from app.demo.hedging_script import (
    END_MS,
    EXACT,
    MINUTE_MS,
    NEXT_OPEN_MS,
    OPEN_MS,
    ScriptedFill,
    price_at,
    script,
)
from app.demo.hedging_venues import Venues, venues
from evenkeel.clock import as_datetime
from evenkeel.errors import OperatorError
from evenkeel.units import HOUR_MS
from tasks.hedging.books import trades_of, write_books

A_SYMBOL = 75
SEEN_MS, PACE_MS = 4_000, 4_000
"""A block is below the cutoff so long after its time; and so often passes are made while an order is open."""
CALM_MS = 4 * HOUR_MS
"""So often everybody makes a pass, where nothing happens."""
SETTLE_PASSES = 40
EXTRA = Decimal("1.5")
CENT = Decimal("0.01")


@dataclass
class Story:
    """What the two days share. `did` is what went wrong, and whether it ended well."""

    venues: Venues
    instances: list[Instance]
    fills: Sequence[ScriptedFill]
    console: Console
    did: dict[str, bool] = field(default_factory=dict)

    @property
    def now_ms(self) -> int:
        return self.venues.world.now_ms()

    def of(self, broker: str) -> Instance | None:
        """The instance of a broker, where it is played."""
        return next((one for one in self.instances if one.broker == broker), None)

    def note(self, what: str, ok: bool, text: str) -> None:
        """Keep what happened and print it."""
        self.did[what] = ok
        at = as_datetime(self.now_ms).strftime("%a %H:%M:%S")
        line = f"{'ok  ' if ok else 'FAIL'} {at} {what}: {text}"
        self.console.print(line, markup=False, soft_wrap=True)


Act = Callable[[Story], Awaitable[None]]


def run_demo(
    out_dir: Path, console: Console, *, a_symbol: int = A_SYMBOL, brokers: Sequence[str] = tuple(DESKS)
) -> dict[str, Any]:
    """Play the two days and return what `summary.json` holds. Raises OperatorError where they did not end as they should."""
    began = time.monotonic()
    out_dir.mkdir(parents=True, exist_ok=True)
    with venues() as served:
        instances = [written(out_dir / "desks", served, broker, DESKS[broker]) for broker in brokers]
        symbols = {one.symbol for one in instances}
        fills = [one for one in script(7, a_symbol) if one.symbol in symbols]
        story = Story(served, instances, fills, console)
        summary, found = asyncio.run(_two_days(story))
    summary["wall_seconds"] = round(time.monotonic() - began, 1)
    write_books(found, out_dir)
    (out_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print(
        f"{summary['fills']} fills, {summary['hedges']} hedges; spread {summary['spread_usd']} USD "
        f"({summary['spread_bps']} bps), netting {summary['netting_usd']}, directional {summary['directional_usd']}; "
        f"realised {summary['realised_usd']}, the venues' cash {summary['venues_usd']}: residual {summary['residual_usd']} USD",
        markup=False,
        soft_wrap=True,
    )
    console.print(
        f"summary: {out_dir / 'summary.json'}   wall time {summary['wall_seconds']} s", markup=False
    )
    _require_results(summary)
    return summary


async def _two_days(story: Story) -> tuple[dict[str, Any], Pnl]:
    """Move the world from one event to the next; a desk makes a pass when a fill of its symbol is to be seen, while an order of
    its own is open, at each open, and every four hours.
    """
    for fill in story.fills:
        story.venues.trade(fill)
    acts = sorted(_acts(story), key=lambda each: each[0])
    wakes = sorted((fill.at_ms + SEEN_MS, fill.symbol) for fill in story.fills)
    marks = [OPEN_MS + SEEN_MS, NEXT_OPEN_MS + SEEN_MS, END_MS - MINUTE_MS]
    async with opened(story.instances, story.venues):
        while story.now_ms < END_MS - MINUTE_MS:
            now = story.now_ms
            busy = [one for one in story.instances if one.is_busy]
            wakes = [each for each in wakes if each[0] > now]
            times = [
                *(at for at, _ in wakes[:1]),
                *(at for at, _ in acts[:1]),
                *(at for at in marks if at > now),
            ]
            times += [now + PACE_MS] if busy else [(now // CALM_MS + 1) * CALM_MS]
            at = min(times)
            story.venues.advance(at)
            if acts and acts[0][0] <= at:
                await acts.pop(0)[1](story)
                continue
            seen = {symbol for when, symbol in wakes if when <= at}
            everybody = at in marks or at % CALM_MS == 0
            for one in story.instances:
                if everybody or one in busy or one.symbol in seen:
                    await one.one_pass()
        await settled(story)
        return _summary(story)


async def settled(story: Story) -> None:
    """Make passes until no order is open and none is sent."""
    for _ in range(SETTLE_PASSES):
        story.venues.advance(story.now_ms + PACE_MS)
        for one in story.instances:
            await one.one_pass()
        if not any(one.is_busy for one in story.instances):
            return
    raise OperatorError("the demo's orders did not end")


def _acts(story: Story) -> list[tuple[int, Act]]:
    """What goes wrong, and when: each at the moment at which a fill of its symbol is to be seen."""
    found: list[tuple[int, Act]] = []
    for broker, after_ms, act in (
        ("alpaca", HOUR_MS // 2, _partial),
        ("alpaca-broker", HOUR_MS, _lost_answer),
        ("schwab", HOUR_MS, _lost_schwab),
        ("alpaca", 2 * HOUR_MS, _reorganisation),
        ("alpaca-broker", 3 * HOUR_MS, _kill),
        ("alpaca-broker", 4 * HOUR_MS, _rebalance),
    ):
        if (one := story.of(broker)) is not None:
            later = (
                fill.at_ms
                for fill in story.fills
                if fill.symbol == one.symbol and fill.at_ms > OPEN_MS + after_ms
            )
            found.append((next(later) + SEEN_MS - 1, act))
    return found


async def _partial(story: Story) -> None:
    """The next order is filled by 40 percent, then cancelled: a second one hedges the rest."""
    one = story.of("alpaca")
    assert one is not None
    fault = story.venues.fault("alpaca", "partial", f"order:{one.symbol}", fraction="0.4", then="cancel")
    await settled(story)
    counts = [each.result["done_qty"] for each in one.store.hedging.orders(one.symbol, 2) if each.result]
    ok = fault.hits == 1 and abs(one.store.hedging.exposure(one.symbol).open_shares) < CENT
    story.note(
        "partial",
        ok,
        f"an order was cancelled at 40 %; the newest orders filled {' and '.join(map(str, counts))}",
    )


async def _lost_answer(story: Story) -> None:
    await _lost(story, "alpaca-broker", "alpaca", "orders:place", "lost answer")


async def _lost_schwab(story: Story) -> None:
    await _lost(story, "schwab", "schwab", "order:place", "lost answer at Schwab")


async def _lost(story: Story, broker: str, venue: str, call: str, what: str) -> None:
    """The broker has the order and its answer is lost: it is found, and none is sent in its place."""
    one = story.of(broker)
    assert one is not None
    before = len(story.venues.filled_orders())
    fault = story.venues.fault(venue, "drop_answer", call)
    await settled(story)
    new = len(story.venues.filled_orders()) - before
    story.note(
        what, fault.hits == 1 and new >= 1, f"{broker} had the order and nobody heard so; it was found"
    )


async def _reorganisation(story: Story) -> None:
    """A fill is hedged, and the chain takes it back: its hedge is hedged back."""
    one = story.of("alpaca")
    assert one is not None
    at_ms = story.now_ms // 2_000 * 2_000 + 2_000
    price = price_at(one.symbol, at_ms) or Decimal(0)
    fill = ScriptedFill(at_ms, one.symbol, "sell", EXTRA, EXACT.multiply(EXTRA, price))
    transaction = story.venues.trade(fill)
    await settled(story)
    known = len(one.store.hedging.fills(transaction=transaction))
    story.venues.reorganise(at_ms, transaction)
    await settled(story)
    gone = one.store.hedging.fills(transaction=transaction, live_only=False)
    ok = known == 1 and any(each.reversal_of for each in gone) and not any(each.is_live for each in gone)
    ok = ok and abs(one.store.hedging.exposure(one.symbol).open_shares) < CENT
    story.note(
        "reorganisation", ok, f"{EXTRA} {one.symbol} were hedged, taken back by the chain, and hedged back"
    )


async def _kill(story: Story) -> None:
    """A process is killed between the broker's taking of its order and the answer: the next one finds the order."""
    one = story.of("alpaca-broker")
    assert one is not None
    story.venues.advance(story.now_ms + 1)
    before = len(story.venues.filled_orders())
    code = await one.killed_run(story.venues)
    await settled(story)
    new = len(story.venues.filled_orders()) - before
    story.note(
        "kill",
        code < 0 and new >= 1,
        f"killed with signal {-code} while its order was on the way; it was found",
    )


async def _rebalance(story: Story) -> None:
    """The broker has too many shares and the vault too few: what a person approves is moved, once."""
    one = story.of("alpaca-broker")
    assert one is not None
    await settled(story)
    ok, text = await rebalanced(one, story.venues)
    await settled(story)
    story.note("rebalance", ok, text)


def _summary(story: Story) -> tuple[dict[str, Any], Pnl]:
    """What came out, by our books and by the venues' own."""
    trades = [trade for one in story.instances for trade in trades_of(one.store)]
    found = pnl(trades)
    dry = [trade for trade in trades if trade.venue == "dry-run"]
    shares, cash = story.venues.truth()
    for trade in dry:  # the dry run has no twin: what it would have done is its own count
        way = 1 if trade.side == "buy" else -1
        shares[trade.symbol] = EXACT.add(shares[trade.symbol], way * trade.shares)
        cash = EXACT.subtract(cash, way * trade.usdc)
    booked = {
        trade.key.rpartition(":")[0]
        for trade in trades
        if trade.source == "broker" and trade.venue != "dry-run"
    }
    at_brokers = len(story.venues.filled_orders())
    chain = [trade for trade in trades if trade.source == "chain"]
    residual = EXACT.subtract(found.net_cash_usd, cash)
    spread = found.earned(Bucket.SPREAD)
    unfinished = {
        one.broker: str(one.store.hedging.open_order(one.symbol)) for one in story.instances if one.is_busy
    }
    summary = {
        "fills": len(chain),
        "hedges": len({trade.key.rpartition(":")[0] for trade in trades if trade.source == "broker"}),
        "unhedged_fills": sum(trade.source == "chain" for trade in found.unpaired()),
        "duplicate_hedges": at_brokers - len(booked),
        "spread_usd": _cents(spread),
        "spread_bps": str(bps(spread, found.chain_usdc)),
        "netting_usd": _cents(found.earned(Bucket.NETTING)),
        "directional_usd": _cents(found.earned(Bucket.DIRECTIONAL)),
        "realised_usd": _cents(found.realised_usd),
        "realised_bps": str(bps(found.realised_usd, found.chain_usdc)),
        "venues_usd": _cents(cash),
        "residual_usd": _cents(abs(residual)),
        "open_shares": {symbol: str(count.normalize()) for symbol, count in shares.items() if count},
        "exposure_median_s": (found.exposure.median_ms or 0) / 1000,
        "exposure_worst_s": (found.exposure.worst_ms or 0) / 1000,
        "events": story.did,
        "unfinished": unfinished,
        "chain_usdc": _cents(total(trade.usdc for trade in chain)),
    }
    return summary, found


def _cents(amount: Decimal) -> str:
    return str(amount.quantize(CENT) + 0)


def _require_results(summary: dict[str, Any]) -> None:
    """A demo that did not end as promised must not look like one that did."""
    wrong = [f"{what} did not end well" for what, ok in summary["events"].items() if not ok]
    wrong += [
        f"{name} is {summary[name]}"
        for name in ("unhedged_fills", "duplicate_hedges", "open_shares", "unfinished")
        if summary[name]
    ]
    if Decimal(summary["residual_usd"]) != 0:
        wrong.append(f"the books and the venues' cash are {summary['residual_usd']} USD apart")
    if wrong:
        raise OperatorError(f"the demo did not end as it should: {'; '.join(wrong)}")


def main() -> int:
    """Run it into `out/demo-hedging`; return the exit code."""
    try:
        run_demo(Path("out/demo-hedging"), Console())
    except OperatorError as why:
        sys.stderr.write(f"evenkeel: {why}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
