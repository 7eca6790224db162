"""How long a token of a sign-in lives, as its endpoint says: a token is not lost for what is said of its life."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from venues.reading import Oddities, Oddity


def life_s(
    said: Any, most_s: int, documented_s: int, oddities: Oddities, source: str, *, whole: bool
) -> float:
    """Return the seconds that an answer of `source` gives a token; those that are documented where what is said is no number
    (`whole`: no whole one) from 1 to `most_s`. That is named, and what stood there is not quoted.
    """
    kinds = (int,) if whole else (int, Decimal)
    fits = isinstance(said, kinds) and not isinstance(said, bool) and 1 <= said <= most_s
    number = "whole number" if whole else "number"
    why = f"no {number} from 1 to {most_s}: a token counts as living {documented_s} s"
    oddities.answered(source, [] if fits else [Oddity(source, "", "expires_in", why, lost=False)])
    return float(said) if fits else documented_s
