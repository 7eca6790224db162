"""What happens to a carry position in handwritten scenarios: halted venues, a moving market, a leg that the venue takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.chaos.events import Event, out_of_reach
from tests.chaos.testbed import Testbed, TwinsAccess


def account_of(bed: TwinsAccess) -> dict[str, str]:
    """The short's account and coin, as the Hyperliquid twin's control commands name them."""
    return {"address": bed.twins.keys["hyperliquid"]["account_address"], "coin": "SOL"}


def live_pda(bed: Testbed) -> str:
    """The one lending position that holds something."""
    (held,) = [one for one in bed.twins.asgard.control("ledger", {})["positions"] if one["live"]]
    return str(held["pda"])


def control(twin: Callable[[str, dict[str, Any]], dict[str, Any]], op: str, body: dict[str, Any]) -> None:
    """A control command whose answer is of no interest."""
    twin(op, body)


def hyperliquid_halted(seconds: float, mode: str = "502") -> Event:
    return out_of_reach(
        "short",
        seconds,
        lambda bed: control(bed.twins.hyperliquid.control, "halt", {"mode": mode}),
        lambda bed: control(bed.twins.hyperliquid.control, "resume", {}),
    )


def solana_halted(seconds: float) -> Event:
    return out_of_reach(
        "long",
        seconds,
        lambda bed: control(bed.twins.chain.control, "halt", {}),
        lambda bed: control(bed.twins.chain.control, "resume", {}),
    )


def hidden(seconds: float) -> Event:
    """An order is filled, its answer is lost, and its record stays unseen for a while."""

    def event(bed: Testbed) -> None:
        bed.fault("hyperliquid", "hidden_order", times=1, seconds=seconds)
        bed.fault("hyperliquid", "drop_answer", "exchange:order", times=1)

    return event


def price(usd: float) -> Event:
    """The price of SOL jumps."""
    return lambda bed: bed.market(sol_price=usd)


def deleveraged(fraction: str) -> Event:
    """Hyperliquid closes this fraction of the short by auto-deleveraging."""
    return lambda bed: control(bed.twins.hyperliquid.control, "adl", account_of(bed) | {"fraction": fraction})


def short_liquidated(bed: Testbed) -> None:
    control(bed.twins.hyperliquid.control, "liquidate", account_of(bed))


def long_liquidated(full: bool) -> Event:
    return lambda bed: control(bed.twins.asgard.control, "liquidate", {"pda": live_pda(bed), "full": full})
