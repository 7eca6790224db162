"""The stories of hedging that faults are crossed with: what processes and the world do until the fault is behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from evenkeel.errors import EvenkeelError
from tests.chaos.hedging.bed import BROKERS, Bed
from tests.interruptions import Killed, die, hooked
from twins.alpaca.serve import START_MS
from twins.faults import Fault

ALPACA, AT_A_BROKER = ("alpaca", "alpaca-broker"), ("alpaca", "alpaca-broker", "schwab")
NIGHT_MS = int(datetime(2026, 1, 7, 2, tzinfo=UTC).timestamp() * 1000)
OPEN_MS = int(datetime(2026, 1, 7, 14, 30, 5, tzinfo=UTC).timestamp() * 1000)
DAY_S = 86_400


@dataclass(frozen=True)
class Story:
    """What happens, at which brokers, and from when on."""

    act: Callable[[Bed], Awaitable[None]]
    brokers: tuple[str, ...]
    start_ms: int = START_MS


async def backfill(bed: Bed) -> None:
    """Many windows are read before anything is hedged, and some of it twice."""
    bed.settings["more_chain"] = {"window_blocks": 12, "windows_per_pass": 2}
    for number in range(6):
        bed.trade("AAPL" if number % 2 else "MSFT", "sell" if number % 3 else "buy", "3")
        bed.later(20)
    await bed.life("backfill")
    bed.trade("NVDA", "sell", "2")
    bed.later(20)
    await bed.life("backfill")
    await bed.life("backfill")


async def live(bed: Bed) -> None:
    """Fills of two symbols, an order that is filled in parts, and fills against it."""
    bed.part(1, then="rest")
    bed.trade("AAPL", "sell", "4")
    await bed.life()
    bed.later(12)
    bed.fill_held(1)
    bed.trade("NVDA", "buy", bed.shares("2.5"))
    await bed.life()
    bed.trade("AAPL", "buy", "1")
    await bed.life()


async def cancelled(bed: Bed) -> None:
    """An order that is cancelled after a part."""
    bed.part(2, then="cancel")
    bed.trade("MSFT", "sell", "4")
    await bed.life()
    bed.later(30)
    await bed.life()


async def night(bed: Bed) -> None:
    """Fills of a closed night, and the open."""
    for _ in range(2):
        bed.trade("AAPL", "sell", "2")
        await bed.life()
    bed.world.clock.advance_to(OPEN_MS)
    await bed.life()
    bed.later(20)
    await bed.life()


async def reorganised(bed: Bed) -> None:
    """A fill that was hedged and is taken back by the chain."""
    gone = bed.trade("AAPL", "sell", "4")
    bed.trade("NVDA", "sell", "1")
    await bed.life()
    bed.later(20)
    await bed.life()
    bed.chain.control("reorganise", {"depth": 30, "drop_only": [gone]})
    bed.later(10)
    await bed.life()
    bed.later(20)
    await bed.life()


async def recovery(bed: Bed) -> None:
    """A process died when the broker had its order and the ledger did not know; others take it up."""
    bed.trade("AAPL", "sell", "4")
    venue, call = ("schwab", "order:place") if bed.kind == "schwab" else ("alpaca", "orders:place")
    lost = Fault(venue, "drop_answer", call)
    bed.plan.add(lost)
    with hooked(bed.store, "mark_submitted", before=die), suppress(Killed, EvenkeelError):
        async with bed.desk() as at:
            await _hedge_once(at)
    lost.times = 0
    bed.later(12)
    for _ in range(4):
        await bed.life()
        bed.later(20)


async def login(bed: Bed) -> None:
    """The access token ends again and again, and each time it is refreshed."""
    for _ in range(3):
        bed.trade("AAPL", "sell", "2")
        await bed.life()
        bed.later(26 * 60)
    await bed.life()


async def login_over(bed: Bed) -> None:
    """The login ends with an exposure open, and somebody logs in again."""
    bed.trade("AAPL", "sell", "2")
    await bed.life()
    bed.later(7 * DAY_S)
    bed.trade("AAPL", "sell", "3")
    await bed.life()
    await bed.log_in()
    await bed.life()


async def _hedge_once(at: object) -> None:
    from tests.chaos.hedging.bed import LIVES

    await LIVES["hedge"](at)  # type: ignore[arg-type]


STORIES = {
    "backfill": Story(backfill, ("dry-run", "alpaca")),
    "live": Story(live, BROKERS),
    "cancelled": Story(cancelled, AT_A_BROKER),
    "night": Story(night, AT_A_BROKER, NIGHT_MS),
    "reorganised": Story(reorganised, ("alpaca", "schwab", "dry-run")),
    "recovery": Story(recovery, AT_A_BROKER),
    "login": Story(login, ("schwab",)),
    "login over": Story(login_over, ("schwab",)),
}
