"""How kinds of faults of a carry life draw their figures: at which call or when they happen, and what is simpler."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable

from tests.chaos.carry.stories import CALLS
from tests.chaos.seeded.kinds import Kind
from tests.chaos.seeded.lives import Params
from tests.chaos.seeded.playing import Playing

Drawing = Callable[[random.Random], Params]
Event = Callable[[Playing, Params], None]
PART = {"hyperliquid": "short", "asgard": "long", "solana": "long"}
LEAVING = ("exit", "flatten")


def always(params: Params) -> bool:
    return True


# --- when it happens ----------------------------------------------------------------------------------------


def some_call(chance: random.Random, calls: Counter[str]) -> str | None:
    """A call of the chapter: what can change something three times out of five."""
    every = sorted(calls)
    changing = [one for one in every if CALLS.writes(one) or CALLS.builds(one)]
    if changing and chance.random() < 0.6:
        return chance.choice(changing)
    return chance.choice(every) if every else None


def nth_of(chance: random.Random, count: int) -> int:
    return 1 if count == 1 or chance.random() < 0.5 else chance.randint(1, min(count, 40))


def when(chance: random.Random, calls: Counter[str]) -> Params:
    """Right before a call, or so many seconds after the chapter began."""
    call = some_call(chance, calls)
    if call is None or chance.random() < 0.4:
        return {"at": chance.choice((0, 0, 5, 20, 45, 90))}
    return {"call": call, "nth": nth_of(chance, calls[call])}


def place(playing: Playing, params: Params, event: Callable[[], None]) -> None:
    if "call" in params:
        playing.on_call(re.escape(params["call"]), "", params["nth"], event=event)
    elif params["at"] == 0:
        event()
    else:
        playing.at(params["at"], event)


def simpler(params: Params) -> Iterable[Params]:
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


def event_kind(
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
        return draw(chance) | when(chance, calls)

    def begin(playing: Playing, params: Params) -> None:
        place(playing, params, lambda: event(playing, params))

    def lasts_s(params: Params) -> float:
        return float(params.get("at", 0)) + after_s(params)

    return Kind(name, drawn, begin, chapters, weight, lasts_s, simpler, is_reason)
