"""A router's instruction, read: who pays, where the output goes, and which amounts bound it.

Jupiter's first instructions carry their amounts behind the steps of the route, the second ones (`*_v2`) before them; DFlow's
carry them behind its actions. A step that is not understood makes amounts behind it a matter of reading: `readings` holds every
way in which the program could take them, the one that an honest builder means first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from venues.solana.anchors import anchor
from venues.solana.routes.layouts import Unreadable
from venues.solana.routes.table import Kind, RouteTable

MAX_STEPS = 16
MAX_PATHS = 32
"""Ways of reading kinds that were published in several forms."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """`amount_in` is what is paid: exactly, or quoted where `exact_out`; None where the instruction does not say it."""

    amount_in: int | None
    quoted_out: int
    slippage_bps: int
    fee_bps: int
    exact_out: bool = False


@dataclass(frozen=True, slots=True)
class Slots:
    """Where the accounts stand that decide; None for one that an instruction does not have."""

    authority: int
    source: int | None
    destination: int | None
    token_programs: tuple[int, ...]
    source_mint: int | None
    mint: int | None
    target: int | None = None
    """Optional account that the output goes to instead of `destination`."""
    fee: int | None = None
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """One instruction of a router. `head`: bytes between discriminator and arguments; `tail`: bytes behind the arguments."""

    name: str
    router: str
    slots: Slots
    amounts_first: bool = False
    exact_out: bool = False
    head: int = 0
    tail: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A router's instruction as it was read. `not_understood` names what of its steps is not; None: nothing."""

    form: Form
    names: tuple[str, ...]
    readings: tuple[Amounts, ...]
    not_understood: str | None

    @property
    def amounts(self) -> Amounts:
        return self.readings[0]


_ROUTE = Slots(1, 2, 3, (0,), None, 5, target=4, fee=6)
_EXACT_OUT = Slots(1, 2, 3, (0,), 5, 6, target=4, fee=7)
_SHARED = Slots(2, 3, 6, (0,), 7, 8, fee=9)
_V2 = Slots(0, 1, 2, (5, 6), 3, 4, target=7)
_SHARED_V2 = Slots(1, 2, 5, (8, 9), 6, 7)
_DFLOW = Slots(3, None, None, (0,), None, None)
_DFLOW_TO = Slots(3, None, 4, (0,), None, 6, owner=5)
JUPITER_FORMS = {
    anchor(form.name): form
    for form in (
        Form("route", "jupiter", _ROUTE),
        Form("shared_accounts_route", "jupiter", _SHARED, head=1),
        Form("exact_out_route", "jupiter", _EXACT_OUT, exact_out=True),
        Form("shared_accounts_exact_out_route", "jupiter", _SHARED, exact_out=True, head=1),
        Form("route_v2", "jupiter", _V2, amounts_first=True),
        Form("shared_accounts_route_v2", "jupiter", _SHARED_V2, amounts_first=True, head=1),
        Form("exact_out_route_v2", "jupiter", _V2, amounts_first=True, exact_out=True),
        Form(
            "shared_accounts_exact_out_route_v2",
            "jupiter",
            _SHARED_V2,
            amounts_first=True,
            exact_out=True,
            head=1,
        ),
    )
}
DFLOW_FORMS = {
    anchor(form.name): form
    for form in (
        Form("swap", "dflow", _DFLOW),
        Form("swap2", "dflow", _DFLOW, tail=1),
        Form("swap_with_destination", "dflow", _DFLOW_TO),
        Form("swap2_with_destination", "dflow", _DFLOW_TO, tail=1),
    )
}


def read_call(form: Form, data: bytes, table: RouteTable) -> Call:
    """Return an instruction of a router, discriminator included in its data. Raises `Unreadable` where even its amounts
    cannot be found.
    """
    kinds = table.kinds(form.router)
    at = 8 + form.head
    if form.amounts_first:
        return _amounts_before(form, data, at, kinds)
    after_step, size = (3, 19) if form.router == "jupiter" else (0, 12 + form.tail)
    last = len(data) - size
    names, end, problem = _steps(data, at, last, kinds, after_step)
    if end > last:
        raise Unreadable("its data end too early")
    if problem is None:
        return Call(form, names, (_amounts_at(form, data, last),), None)
    return Call(form, names, tuple(_amounts_at(form, data, one) for one in range(last, end - 1, -1)), problem)


def _amounts_before(form: Form, data: bytes, at: int, kinds: Mapping[int, Kind]) -> Call:
    if len(data) < at + 26:
        raise Unreadable("its data end too early")
    first, second = _number(data, at, 8), _number(data, at + 8, 8)
    slippage, fee = _number(data, at + 16, 2), _number(data, at + 18, 2)
    names, _, problem = _steps(data, at + 22, len(data), kinds, 4)
    return Call(form, names, (_exact(form, first, second, slippage, fee),), problem)


def _steps(
    data: bytes, at: int, last: int, kinds: Mapping[int, Kind], after_step: int
) -> tuple[tuple[str, ...], int, str | None]:
    """The steps' names, their end, and None where they end at `last` in just one way; else what is not understood, and where
    the steps end at the earliest. Raises `Unreadable` where known steps end elsewhere.
    """
    count = _number(data, at, 4)
    if not 1 <= count <= MAX_STEPS or at + 4 > len(data):
        raise Unreadable(f"it has {count} steps")
    paths: list[tuple[tuple[str, ...], int]] = [((), at + 4)]
    for number in range(count):
        longer: list[tuple[tuple[str, ...], int]] = []
        for names, start in paths:
            if start >= last:
                continue
            kind = kinds.get(data[start])
            try:
                if kind is None:
                    raise Unreadable("it is not known here")
                ends = kind.layout.ends(data[:last], start + 1)
            except Unreadable as odd:
                shown = f"exchange kind {data[start]}" + (f" ({kind.name})" if kind else "")
                return names, start + (count - number) * (1 + after_step), f"{shown}: {odd}"
            longer += [((*names, kind.name), end + after_step) for end in ends]
        if not longer:
            raise Unreadable("its data end too early")
        paths = longer[:MAX_PATHS]
    whole = [one for one in paths if one[1] == last]
    if not whole:
        raise Unreadable("its data go on behind its steps or end within them")
    if len(whole) > 1:
        return whole[0][0], min(end for _, end in paths), "its steps can be read in two ways"
    return whole[0][0], last, None


def _amounts_at(form: Form, data: bytes, at: int) -> Amounts:
    if form.router == "dflow":
        quoted, slippage, fee = _number(data, at, 8), _number(data, at + 8, 2), _number(data, at + 10, 2)
        return Amounts(None, quoted, slippage, fee)
    first, second = _number(data, at, 8), _number(data, at + 8, 8)
    return _exact(form, first, second, _number(data, at + 16, 2), _number(data, at + 18, 1))


def _exact(form: Form, first: int, second: int, slippage: int, fee: int) -> Amounts:
    if form.exact_out:
        return Amounts(second, first, slippage, fee, exact_out=True)
    return Amounts(first, second, slippage, fee)


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")
