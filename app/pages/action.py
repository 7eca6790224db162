"""What an action of a page is: what it is given, what it says before it is done, and how it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.pages.reader import Ledger

Given = Mapping[str, str]
"""By the name of a field, what was typed or chosen."""


@dataclass(frozen=True)
class Field:
    """One line that the form asks for."""

    name: str
    label: str
    required: bool = False


@dataclass(frozen=True)
class Action:
    """`says` returns in words what would be done, as things stand; `do` does it, for the audit log by `who`, and returns the
    page that shows it. Both raise OperatorError for what cannot be done. `do` may lead to another action that confirms.
    """

    name: str
    title: str
    button: str
    back: str
    says: Callable[[Ledger, Given], list[str]]
    do: Callable[[Ledger, Given, str], str]
    fixed: tuple[str, ...] = ()
    """What the link to the form gives."""
    asks: tuple[Field, ...] = ()
    """What a person types."""
