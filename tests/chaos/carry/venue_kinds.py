"""Faults by which a venue answers and nothing can be done all the same: odd answers, empty builds, reserves, keys, modes."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.chaos.answers import VALUES, changed
from tests.chaos.carry.drawing import LEAVING, event_kind, simpler
from tests.chaos.carry.events import KAMINO, control, key_ends, mode_switched, paused, reserve_left, unlisted
from tests.chaos.events import Event
from tests.chaos.seeded.kinds import Kind
from tests.chaos.seeded.lives import Params
from tests.chaos.seeded.playing import Playing
from twins.odd_rows import ODD_ROWS

STRETCHES = (20, 60, 150, 400)
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


def _for_a_while(event: Event) -> Callable[[Playing, Params], None]:
    """The event, and after a while what ends it."""

    def begin(playing: Playing, params: Params) -> None:
        before = len(playing.restore)
        event(playing)
        ends, playing.restore = playing.restore[before:], playing.restore[:before]
        for end in ends:
            playing.at(params["lasts_s"], end)

    return begin


def _reserve(playing: Playing, params: Params) -> None:
    _for_a_while(reserve_left(params["left"]))(playing, params)


def _paused(playing: Playing, params: Params) -> None:
    operations = () if params["operation"] == "all" else (params["operation"],)
    _for_a_while(paused(*operations))(playing, params)


def _not_active(playing: Playing, params: Params) -> None:
    asgard = playing.twins.asgard.control
    market = {"protocol": KAMINO, "symbol": "SOL"}
    asgard("set_active", market | {"on": False})
    playing.at(params["lasts_s"], lambda: control(asgard, "set_active", market | {"on": True}))


def _key_ends(playing: Playing, params: Params) -> None:
    """Our key on Hyperliquid ends; after a while its owner approves it anew."""
    _for_a_while(key_ends(params["hours"]))(playing, params)


def _mode(playing: Playing, params: Params) -> None:
    mode_switched(params["mode"])(playing)


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
    event_kind("market not listed", _for_a_while(unlisted), _stretch),
    event_kind("market not active", _not_active, _stretch),
    event_kind(
        "key ends",
        _key_ends,
        lambda chance: _stretch(chance, hours=chance.choice((0.0, 0.02, 12.0, 36.0))),
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
