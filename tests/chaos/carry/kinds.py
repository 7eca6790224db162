"""Kinds of faults that a seeded life of a carry position may meet, with the figures that each is drawn with."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from tests.chaos.carry.events import account_of, control
from tests.chaos.carry.stories import CALLS
from tests.chaos.findings import Outage
from tests.chaos.interceptor import CALL_FAULTS, NO_FAULT, ORDER_FAULTS, READ_FAULTS, WRITE_FAULTS
from tests.chaos.seeded.kinds import Kind
from tests.chaos.seeded.lives import Params
from tests.chaos.seeded.playing import Playing

Drawing = Callable[[random.Random], Params]
Event = Callable[[Playing, Params], None]
PART = {"hyperliquid": "short", "asgard": "long", "solana": "long"}
LEAVING = ("exit", "flatten")
LONGEST_S = 400.0


def _always(params: Params) -> bool:
    return True


# --- when it happens ----------------------------------------------------------------------------------------


def _some_call(chance: random.Random, calls: Counter[str]) -> str | None:
    """A call of the chapter: what can change something three times out of five."""
    every = sorted(calls)
    changing = [one for one in every if CALLS.writes(one) or CALLS.builds(one)]
    if changing and chance.random() < 0.6:
        return chance.choice(changing)
    return chance.choice(every) if every else None


def _nth(chance: random.Random, count: int) -> int:
    return 1 if count == 1 or chance.random() < 0.5 else chance.randint(1, min(count, 40))


def _when(chance: random.Random, calls: Counter[str]) -> Params:
    """Right before a call, or so many seconds after the chapter began."""
    call = _some_call(chance, calls)
    if call is None or chance.random() < 0.4:
        return {"at": chance.choice((0, 0, 5, 20, 45, 90))}
    return {"call": call, "nth": _nth(chance, calls[call])}


def _place(playing: Playing, params: Params, event: Callable[[], None]) -> None:
    if "call" in params:
        playing.on_call(re.escape(params["call"]), "", params["nth"], event=event)
    elif params["at"] == 0:
        event()
    else:
        playing.at(params["at"], event)


def _simpler(params: Params) -> Iterable[Params]:
    if params.get("nth", 1) > 1:
        yield params | {"nth": 1}
    if "call" in params and "nth" in params and len(params) > 2:
        yield {name: value for name, value in params.items() if name not in ("call", "nth")} | {"at": 0}
    if params.get("at", 0) > 0:
        yield params | {"at": 0}
    if params.get("lasts_s", 0) > 30:
        yield params | {"lasts_s": round(params["lasts_s"] / 2)}
    if params.get("times", 1) > 1:
        yield params | {"times": 1}


def _event(
    name: str,
    event: Event,
    draw: Drawing = lambda chance: {},
    chapters: tuple[str, ...] = (),
    weight: int = 1,
    is_reason: Callable[[Params], bool] = lambda params: False,
    after_s: Callable[[Params], float] = lambda params: params.get("lasts_s", 0.0),
) -> Kind:
    """A kind that happens at one moment of its chapter."""

    def drawn(chance: random.Random, calls: Counter[str]) -> Params:
        return draw(chance) | _when(chance, calls)

    def begin(playing: Playing, params: Params) -> None:
        _place(playing, params, lambda: event(playing, params))

    def lasts_s(params: Params) -> float:
        return float(params.get("at", 0)) + after_s(params)

    return Kind(name, drawn, begin, chapters, weight, lasts_s, _simpler, is_reason)


# --- one call gone wrong ------------------------------------------------------------------------------------


def _of_a_call(fault: str) -> Kind:
    def draw(chance: random.Random, calls: Counter[str]) -> Params | None:
        if fault not in READ_FAULTS:
            wanted = [one for one in sorted(calls) if fault in _faults_of(one)]
            call = chance.choice(wanted) if wanted else None
        else:
            call = _some_call(chance, calls)
        return None if call is None else {"call": call, "nth": _nth(chance, calls[call])}

    def begin(playing: Playing, params: Params) -> None:
        playing.on_call(re.escape(params["call"]), fault, params["nth"])

    return Kind(fault, draw, begin, weight=3 if fault.startswith("kill") else 2, simpler=_simpler)


def _faults_of(call: str) -> tuple[str, ...]:
    if call in CALLS.orders:
        return ORDER_FAULTS
    return WRITE_FAULTS if CALLS.writes(call) else READ_FAULTS


# --- a stretch of time --------------------------------------------------------------------------------------


def _lasting(name: str, fault: str, concerns: Callable[[str], bool], weight: int = 1) -> Kind:
    """Every call of one name meets a fault, for a while."""

    def draw(chance: random.Random, calls: Counter[str]) -> Params | None:
        wanted = [one for one in sorted(calls) if concerns(one)]
        if not wanted:
            return None
        return {"call": chance.choice(wanted), "lasts_s": chance.choice((20, 60, 150, 400))}

    def begin(playing: Playing, params: Params) -> None:
        call = params["call"]
        playing.on_call(re.escape(call), fault, lasts_s=params["lasts_s"])
        if fault == "500 before" and (CALLS.writes(call) or CALLS.builds(call)):
            playing.outage(PART[call.partition(" ")[0]], params["lasts_s"])

    return Kind(name, draw, begin, (), weight, lambda params: float(params["lasts_s"]), _simpler)


def _out(playing: Playing, params: Params) -> None:
    """A venue, the chain or our node is out of reach."""
    which, lasts_s = params["which"], params["lasts_s"]
    part = "short" if which == "hyperliquid" else "long"
    playing.outage(part, lasts_s)
    if which in ("hyperliquid", "chain"):
        twin = playing.twins.hyperliquid.control if which == "hyperliquid" else playing.twins.chain.control
        twin("halt", {"mode": params["mode"]} if which == "hyperliquid" else {})
        playing.at(lasts_s, lambda: control(twin, "resume", {}))
    else:
        venue = "solana" if which == "node" else which
        fault = {"502": "500 before", "timeout": "answer lost"}[params["mode"]]
        playing.on_call(f"{venue} .*", fault, lasts_s=lasts_s)


def _out_params(chance: random.Random) -> Params:
    return {
        "which": chance.choice(("hyperliquid", "hyperliquid", "chain", "asgard", "node")),
        "mode": chance.choice(("502", "timeout")),
        "lasts_s": chance.choice((20, 70, 150, 400)),
    }


def _rate_limited(playing: Playing, params: Params) -> None:
    playing.on_call(f"{params['venue']} .*", "429", lasts_s=params["lasts_s"])
    playing.outage(PART[params["venue"]], params["lasts_s"])


# --- what a twin is set to ----------------------------------------------------------------------------------


def _set(
    name: str, venue: str, kind: str, call: str = ".*", weight: int = 1, **choices: tuple[Any, ...]
) -> Kind:
    """A fault that a twin knows itself. `choices`: for each argument, what it is drawn from."""

    def draw(chance: random.Random) -> Params:
        return {"times": 1} | {name: chance.choice(values) for name, values in choices.items()}

    def event(playing: Playing, params: Params) -> None:
        args = {name: params[name] for name in choices if name != "times"}
        playing.fault(venue, kind, call, times=params["times"], **args)

    return _event(name, event, draw, weight=weight)


def _hidden(playing: Playing, params: Params) -> None:
    """An order is filled, its answer is lost, and its record stays unseen for a while."""
    playing.fault("hyperliquid", "hidden_order", times=1, seconds=params["lasts_s"])
    playing.on_call("hyperliquid exchange:order", "answer lost", 1)


# --- the market, and what venues do by themselves -----------------------------------------------------------


def _price_jump(playing: Playing, params: Params) -> None:
    playing.market(sol_price=round(playing.twins.world.sol_price() * params["factor"], 4))


def _price_path(playing: Playing, params: Params) -> None:
    """The price goes to its end in even steps."""
    began, steps = playing.twins.world.sol_price(), params["steps"]
    for step in range(1, steps + 1):
        price = round(began * (1 + (params["factor"] - 1) * step / steps), 4)
        playing.at(params["lasts_s"] * step / steps, lambda price=price: playing.market(sol_price=price))  # type: ignore[misc]


def _funding(playing: Playing, params: Params) -> None:
    playing.market(premium=params["premium"])


def _borrowing(playing: Playing, params: Params) -> None:
    playing.market(borrow_apr=params["apr"])


def _has_short(playing: Playing) -> bool:
    account = playing.twins.hyperliquid.control("ledger", {})["accounts"]
    return bool(account[account_of_key(playing)]["positions"])


def account_of_key(playing: Playing) -> str:
    return str(playing.twins.keys["hyperliquid"]["account_address"]).lower()


def _deleveraged(playing: Playing, params: Params) -> None:
    if _has_short(playing):
        playing.twins.hyperliquid.control("adl", account_of(playing) | {"fraction": params["fraction"]})


def _short_liquidated(playing: Playing, params: Params) -> None:
    if _has_short(playing):
        playing.twins.hyperliquid.control("liquidate", account_of(playing))


def _long_liquidated(playing: Playing, params: Params) -> None:
    for one in playing.twins.asgard.control("ledger", {})["positions"]:
        if one["live"]:
            playing.twins.asgard.control("liquidate", {"pda": one["pda"], "full": params["full"]})


# --- our host -----------------------------------------------------------------------------------------------


def _suspended(playing: Playing, params: Params) -> None:
    """The machine stands still, the world does not."""
    began = playing.now_ms
    playing.outages.append(Outage("*", began, began + int(params["lasts_s"] * 1000)))
    playing.later(params["lasts_s"])


def _skewed(playing: Playing, params: Params) -> None:
    playing.skew_ms = int(params["seconds"] * 1000)


def _is_far(params: Params) -> bool:
    return bool(abs(params["factor"] - 1) > 0.009)


def _is_long(params: Params) -> bool:
    return bool(params["lasts_s"] >= 100)


def _reads(call: str) -> bool:
    return not CALLS.writes(call) and not CALLS.builds(call)


def _changes(call: str) -> bool:
    return not _reads(call)


SEND = "rpc:sendTransaction"
KINDS: tuple[Kind, ...] = (
    *(_of_a_call(fault) for fault in CALL_FAULTS if fault != NO_FAULT),
    _lasting("endpoint down", "500 before", lambda call: True, weight=3),
    _lasting("endpoint answers rubbish", "garbage", _reads, weight=2),
    _lasting("refused for good", "refused", _changes, weight=3),
    _event("out of reach", _out, _out_params, weight=4, is_reason=_is_long),
    _event(
        "rate limited",
        _rate_limited,
        lambda chance: {"venue": chance.choice(tuple(PART)), "lasts_s": chance.choice((10, 30, 90))},
        weight=2,
    ),
    _set("old blockhash in the build", "asgard", "stale_blockhash"),
    _set("transaction lost by the chain", "solana", "drop_transaction", SEND, times=(1, 2)),
    _set("transaction lost by Asgard", "asgard", "submit_lost"),
    _set("lands late", "solana", "land_late", SEND, weight=2, blocks=(30, 60, 140), times=(1, 2)),
    _set("fails in its block", "solana", "fail_transaction", SEND),
    _set("fails on its slippage", "asgard", "slippage_fail"),
    _set("worse price", "asgard", "bad_price", bps=("20", "40")),
    _set("no row at Asgard", "asgard", "submit_no_row"),
    _set("no liquidity", "hyperliquid", "no_liquidity", weight=2, times=(1, 2, 6)),
    _set("partial fills", "hyperliquid", "partial_fill", "exchange:order", times=(1, 2, 4)),
    _set(
        "stale account",
        "hyperliquid",
        "stale",
        "info:clearinghouseState",
        age_s=(10, 20, 60),
        times=(1, 3, 10),
    ),
    _event("order hidden", _hidden, lambda chance: {"lasts_s": chance.choice((8, 40))}),
    _event(
        "blockhash expired",
        lambda playing, params: control(playing.twins.chain.control, "expire_blockhash", {}),
    ),
    _event(
        "node lags",
        lambda playing, params: control(playing.twins.chain.control, "lag", {"slots": params["slots"]}),
        lambda chance: {"slots": chance.choice((10, 30))},
    ),
    _event(
        "price jumps",
        _price_jump,
        lambda chance: {"factor": chance.choice((0.8, 0.9, 0.97, 0.995, 1.005, 1.03, 1.1, 1.2))},
        weight=3,
        is_reason=_is_far,
    ),
    _event(
        "price path",
        _price_path,
        lambda chance: {
            "factor": chance.choice((0.75, 0.85, 1.15, 1.3)),
            "lasts_s": chance.choice((120, 300, 600)),
            "steps": 10,
        },
        ("watch",),
        weight=3,
        is_reason=_always,
    ),
    _event(
        "funding turns",
        _funding,
        lambda chance: {"premium": chance.choice((-0.004, -0.001, 0.002))},
        weight=2,
        is_reason=_always,
    ),
    _event(
        "borrowing dear", _borrowing, lambda chance: {"apr": chance.choice((0.3, 1.5))}, is_reason=_always
    ),
    _event(
        "deleveraged by the venue",
        _deleveraged,
        lambda chance: {"fraction": chance.choice(("1", "0.5", "0.05"))},
        weight=2,
        is_reason=_always,
    ),
    _event("short liquidated", _short_liquidated, is_reason=_always),
    _event(
        "long liquidated",
        _long_liquidated,
        lambda chance: {"full": chance.choice((True, False))},
        is_reason=_always,
    ),
    _event("machine suspended", _suspended, lambda chance: {"lasts_s": chance.choice((20, 60))}),
    _event(
        "host clock wrong",
        _skewed,
        lambda chance: {"seconds": chance.choice((-90, -12, -3, 3, 12, 90))},
    ),
)
