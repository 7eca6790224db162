"""Kinds of faults that a seeded life of a carry position may meet, with the figures that each is drawn with."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.chaos.carry.drawing import PART, always, event_kind, nth_of, simpler, some_call
from tests.chaos.carry.events import HEIGHTS, SLOT, account_of, control
from tests.chaos.carry.stories import CALLS
from tests.chaos.carry.venue_kinds import VENUE_KINDS
from tests.chaos.findings import Outage
from tests.chaos.interceptor import CALL_FAULTS, NO_FAULT, ORDER_FAULTS, READ_FAULTS, WRITE_FAULTS
from tests.chaos.seeded.kinds import Kind
from tests.chaos.seeded.lives import Params
from tests.chaos.seeded.playing import Playing

# --- one call gone wrong ------------------------------------------------------------------------------------


def _of_a_call(fault: str) -> Kind:
    def draw(chance: random.Random, calls: Counter[str]) -> Params | None:
        wanted = [one for one in sorted(calls) if fault in _faults_of(one)]
        writing = [one for one in wanted if CALLS.writes(one)]
        if fault not in READ_FAULTS or (writing and chance.random() < 0.5):
            call = chance.choice(writing or wanted) if wanted else None
        else:
            call = some_call(chance, calls)
        return None if call is None else {"call": call, "nth": nth_of(chance, calls[call])}

    def begin(playing: Playing, params: Params) -> None:
        playing.on_call(re.escape(params["call"]), fault, params["nth"])

    return Kind(fault, draw, begin, weight=6 if fault.startswith("kill") else 3, simpler=simpler)


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

    return Kind(name, draw, begin, (), weight, lambda params: float(params["lasts_s"]), simpler)


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

    return event_kind(name, event, draw, weight=weight)


def _hidden(playing: Playing, params: Params) -> None:
    """An order is filled, its answer is lost, and its record stays unseen for a while."""
    playing.fault("hyperliquid", "hidden_order", times=1, seconds=params["lasts_s"])
    playing.on_call("hyperliquid exchange:order", "answer lost", 1)


def _slots_for_heights(playing: Playing, params: Params) -> None:
    """Our node says slots for heights in these answers, for a while."""
    for method in params["calls"].split():
        call = f"rpc:{method}"
        playing.fault("solana", "field", call, times=-1, path=HEIGHTS[method], scale=SLOT)
        playing.at(params["lasts_s"], partial(playing.end_fault, "solana", "field", call))


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


def _reads(call: str) -> bool:
    return not CALLS.writes(call) and not CALLS.builds(call)


def _changes(call: str) -> bool:
    return not _reads(call)


SEND = "rpc:sendTransaction"
KINDS: tuple[Kind, ...] = (
    *VENUE_KINDS,
    *(_of_a_call(fault) for fault in CALL_FAULTS if fault != NO_FAULT),
    _lasting("endpoint down", "500 before", lambda call: True, weight=3),
    _lasting("endpoint answers rubbish", "garbage", _reads, weight=2),
    _lasting("refused for good", "refused", _changes, weight=3),
    event_kind("out of reach", _out, _out_params, weight=4),
    event_kind(
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
    event_kind("order hidden", _hidden, lambda chance: {"lasts_s": chance.choice((8, 40))}),
    event_kind(
        "blockhash expired",
        lambda playing, params: control(playing.twins.chain.control, "expire_blockhash", {}),
    ),
    event_kind(
        "slots for heights",
        _slots_for_heights,
        lambda chance: {
            "calls": chance.choice(("getEpochInfo", "getLatestBlockhash", " ".join(HEIGHTS))),
            "lasts_s": chance.choice((60, 400)),
        },
        weight=2,
    ),
    event_kind(
        "node lags",
        lambda playing, params: control(playing.twins.chain.control, "lag", {"slots": params["slots"]}),
        lambda chance: {"slots": chance.choice((10, 30))},
    ),
    event_kind(
        "price jumps",
        _price_jump,
        lambda chance: {"factor": chance.choice((0.8, 0.9, 0.97, 0.995, 1.005, 1.03, 1.1, 1.2))},
        weight=3,
        is_reason=_is_far,
    ),
    event_kind(
        "price path",
        _price_path,
        lambda chance: {
            "factor": chance.choice((0.75, 0.85, 1.15, 1.3)),
            "lasts_s": chance.choice((120, 300, 600)),
            "steps": 10,
        },
        ("watch",),
        weight=3,
        is_reason=always,
    ),
    event_kind(
        "funding turns",
        _funding,
        lambda chance: {"premium": chance.choice((-0.004, -0.001, 0.002))},
        weight=2,
        is_reason=always,
    ),
    event_kind(
        "borrowing dear", _borrowing, lambda chance: {"apr": chance.choice((0.3, 1.5))}, is_reason=always
    ),
    event_kind(
        "deleveraged by the venue",
        _deleveraged,
        lambda chance: {"fraction": chance.choice(("1", "0.5", "0.05"))},
        weight=2,
        is_reason=always,
    ),
    event_kind("short liquidated", _short_liquidated, is_reason=always),
    event_kind(
        "long liquidated",
        _long_liquidated,
        lambda chance: {"full": chance.choice((True, False))},
        is_reason=always,
    ),
    event_kind("machine suspended", _suspended, lambda chance: {"lasts_s": chance.choice((20, 60))}),
    event_kind(
        "host clock wrong",
        _skewed,
        lambda chance: {"seconds": chance.choice((-90, -12, -3, 3, 12, 90))},
    ),
)
