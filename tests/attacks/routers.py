"""What a router could make of an instruction: every reading of its data that the program might have, worst for the user.

Written from the published interface and the twin's table of exchanges, not from the validator's: a kind that is not in that
table may have arguments of any length, and what follows the arguments is ignored, as the real program does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from twins.asgard.exchanges import EXCHANGES
from twins.asgard.instructions import anchor

BY_NUMBER = {one.number: one.arguments for one in EXCHANGES.values()}
SIZES = {"b": 1, "I": 4, "Q": 8, "O": 16}


@dataclass(frozen=True)
class Shape:
    """Where the accounts of one instruction stand: who signs, what is paid from, what is paid into, and instead of it."""

    authority: int
    source: int
    destination: int
    target: int | None
    head: int
    first: bool
    exact_out: bool


def _shapes() -> dict[bytes, Shape]:
    found = {}
    for out in ("", "exact_out_"):
        exact = bool(out)
        found[anchor(f"{out}route")] = Shape(1, 2, 3, 4, 8, False, exact)
        found[anchor(f"shared_accounts_{out}route")] = Shape(2, 3, 6, None, 9, False, exact)
        found[anchor(f"{out}route_v2")] = Shape(0, 1, 2, 7, 8, True, exact)
        found[anchor(f"shared_accounts_{out}route_v2")] = Shape(1, 2, 5, None, 9, True, exact)
    return found


SHAPES = _shapes()


def readings(data: bytes, shape: Shape, balance: int) -> list[tuple[int, int]]:
    """(paid at most, received at least) for every way of taking the data that would execute with so much in the account."""
    raw: list[tuple[int, int, int, int]] = []
    if shape.first:
        if len(data) >= shape.head + 22:
            first, second, slippage, fee = struct.unpack_from("<QQHH", data, shape.head)
            raw.append((first, second, slippage, fee))
    else:
        for at in _ends(data, shape.head):
            if at + 19 <= len(data):
                first, second, slippage, fee = struct.unpack_from("<QQHB", data, at)
                raw.append((first, second, slippage, fee))
    found = []
    for first, second, slippage, fee in raw:
        if slippage > 10_000 or fee > 10_000 or max(first, second) >= 2**60:
            continue
        if shape.exact_out:
            paid, out = min(balance, second * (10_000 + slippage) // 10_000), first * (10_000 - fee) // 10_000
        else:
            paid, out = first, second * (10_000 - slippage) * (10_000 - fee) // 10**8
        if 0 < paid <= balance:
            found.append((paid, out))
    return found


def _ends(data: bytes, at: int) -> set[int]:
    """Where the steps of a route may end."""
    if at + 4 > len(data):
        return set()
    count = int.from_bytes(data[at : at + 4], "little")
    if not 1 <= count <= 16:
        return set()
    places = {at + 4}
    for _ in range(count):
        places = {end + 3 for place in places if place < len(data) for end in _after(data, place)}
        places = {place for place in places if place <= len(data)}
    return places


def _after(data: bytes, at: int) -> list[int]:
    arguments = BY_NUMBER.get(data[at])
    at += 1
    if arguments is None:
        return list(range(at, len(data) + 1))
    while arguments:
        letter, arguments = arguments[0], arguments[1:]
        if letter == "?":
            present, letter, arguments = data[at : at + 1] == b"\1", arguments[0], arguments[1:]
            at += 1
            if not present:
                continue
        if letter in SIZES:
            at += SIZES[letter]
            continue
        count, at = int.from_bytes(data[at : at + 4], "little"), at + 4
        if count > len(data):
            return []
        if letter == "C":
            for _ in range(count):
                at += 1 + (9 if data[at : at + 1] == b"\0" else 1)
        else:
            at += count * (2 if letter == "R" else 1)
    return [at] if at <= len(data) else []
