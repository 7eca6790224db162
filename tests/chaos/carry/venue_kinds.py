"""Faults by which a venue answers and nothing can be done all the same: odd answers, empty builds, reserves, keys, modes."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.chaos.answers import VALUES, changed
from tests.chaos.carry.drawing import LEAVING, event_kind, simpler
from tests.chaos.carry.events import account_of, control
from tests.chaos.seeded.kinds import Kind
from tests.chaos.seeded.lives import Params
from tests.chaos.seeded.playing import Playing
from twins.asgard.venue import PROTOCOLS, SOL
from twins.odd_rows import ODD_ROWS

STRETCHES = (20, 60, 150, 400)
DAY_S = 86_400
KAMINO = 1
"""The lender of these lives."""
SUBMITS = r"POST /submit-.*"


# --- odd answers -------------------------------------------------------------------------------------------


def _odd_row_params(chance: random.Random, calls: Counter[str]) -> Params | None:
    wanted = [one for one in sorted(calls) if one.partition(" ")[2] in ODD_ROWS]
    return {"call": chance.choice(wanted), "lasts_s": chance.choice(STRETCHES)} if wanted else None


def _odd_row(playing: Playing, params: Params) -> None:
    venue, _, call = params["call"].partition(" ")
    playing.fault(venue, "odd_row", call)
    playing.at(params["lasts_s"], lambda: playing.end_fault(venue, "odd_row", call))


def _field_params(chance: random.Random, calls: Counter[str]) -> Params | None:
    if not calls:
        return None
    return {
        "call": chance.choice(sorted(calls)),
        "field": chance.randrange(200),
        "value": chance.choice(VALUES),
        "lasts_s": chance.choice(STRETCHES),
    }


def _field(playing: Playing, params: Params) -> None:
    playing.on_call(
        re.escape(params["call"]),
        "",
        lasts_s=params["lasts_s"],
        change=lambda answer: changed(answer, params["field"], params["value"]),
    )


def _lasts_s(params: Params) -> float:
    return float(params["lasts_s"])


# --- what exists and cannot be moved -----------------------------------------------------------------------


def _restored(playing: Playing, params: Params, op: str, now: Params, then: Params) -> None:
    """A command to Asgard's lenders, and after a while the one that undoes it."""
    asgard = playing.twins.asgard.control
    asgard(op, {"protocol": KAMINO} | now)
    playing.at(params["lasts_s"], lambda: control(asgard, op, {"protocol": KAMINO} | then))


def _reserve(playing: Playing, params: Params) -> None:
    """The reserve has lent almost everything out; then it is filled again."""
    liquidity = playing.twins.asgard.book.reserves.liquidity(PROTOCOLS[KAMINO], SOL)
    now = {"symbol": "SOL", "amount": params["left"]}
    _restored(playing, params, "set_liquidity", now, now | {"amount": str(liquidity)})


def _paused(playing: Playing, params: Params) -> None:
    operations = {"operations": [params["operation"]]} if params["operation"] != "all" else {}
    _restored(playing, params, "pause", operations, operations | {"on": False})


def _unlisted(playing: Playing, params: Params) -> None:
    _restored(playing, params, "set_listed", {"symbol": "SOL", "on": False}, {"symbol": "SOL", "on": True})


def _full(playing: Playing, params: Params) -> None:
    _restored(playing, params, "set_active", {"symbol": "SOL", "on": False}, {"symbol": "SOL", "on": True})


def _key(playing: Playing, days: float) -> None:
    keys = playing.twins.keys["hyperliquid"]
    body = {"master": keys["account_address"], "agent": keys["agent_address"], "name": "trader"}
    body["valid_until_ms"] = playing.now_ms + int(days * DAY_S * 1000)
    playing.twins.hyperliquid.control("approve_agent", body)


def _key_ends(playing: Playing, params: Params) -> None:
    """Our key on Hyperliquid ends; after a while its owner approves it anew."""
    _key(playing, params["days"])
    playing.at(params["lasts_s"], lambda: _key(playing, 90))


def _mode(playing: Playing, params: Params) -> None:
    address = account_of(playing)["address"]
    playing.twins.hyperliquid.control("set_abstraction", {"address": address, "mode": params["mode"]})


def _asgard_does(kind: str, call: str, **choices: tuple[Any, ...]) -> Callable[[Playing, Params], None]:
    def begin(playing: Playing, params: Params) -> None:
        playing.fault("asgard", kind, call, times=params["times"], **{name: params[name] for name in choices})

    return begin


def _stretch(chance: random.Random, **more: Any) -> Params:
    return {"lasts_s": chance.choice(STRETCHES)} | more


LEFT = {"fraction": ("0.02", "0.1", "0.5"), "where": ("lender", "wallet")}
VENUE_KINDS: tuple[Kind, ...] = (
    Kind("odd row", _odd_row_params, _odd_row, weight=4, lasts_s=_lasts_s, simpler=simpler),
    Kind("field spoilt", _field_params, _field, weight=8, lasts_s=_lasts_s, simpler=simpler),
    event_kind(
        "reserve empty",
        _reserve,
        lambda chance: _stretch(chance, left=chance.choice(("0", "5", "100"))),
        weight=3,
    ),
    event_kind(
        "lender paused",
        _paused,
        lambda chance: _stretch(chance, operation=chance.choice(("withdraw", "repay", "borrow", "all"))),
        weight=3,
    ),
    event_kind("market not listed", _unlisted, _stretch),
    event_kind("market not active", _full, _stretch),
    event_kind(
        "key ends",
        _key_ends,
        lambda chance: _stretch(chance, days=chance.choice((0.0, 0.001, 0.5, 1.5))),
        weight=2,
    ),
    event_kind(
        "account mode switched",
        _mode,
        lambda chance: {"mode": chance.choice(("unifiedAccount", "default"))},
        weight=2,
    ),
    event_kind(
        "lands without effect",
        _asgard_does("no_effect", SUBMITS),
        lambda chance: {"times": chance.choice((1, 1, 2))},
        weight=3,
    ),
    event_kind(
        "hollow build",
        _asgard_does("hollow", ".*"),
        lambda chance: {"times": chance.choice((1, 2))},
    ),
    event_kind(
        "something is left",
        _asgard_does("leftover", ".*", **LEFT),
        lambda chance: {"times": 1} | {name: chance.choice(values) for name, values in LEFT.items()},
        LEAVING,
        weight=4,
    ),
)
