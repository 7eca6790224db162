"""A contract's interface in bytes: calls, answers, events and named errors, from the artefact's own `abi`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eth_abi.abi import decode, encode
from eth_utils import keccak


def type_of(part: dict[str, Any]) -> str:
    """Return the type of an argument as signatures name it: a struct is its fields in brackets."""
    if not part["type"].startswith("tuple"):
        return str(part["type"])
    fields = ",".join(type_of(one) for one in part["components"])
    return f"({fields}){part['type'].removeprefix('tuple')}"


def signature(entry: dict[str, Any]) -> str:
    """Return `name(types)` of a function, an event or an error."""
    return f"{entry['name']}({','.join(type_of(one) for one in entry['inputs'])})"


def named(part: dict[str, Any], value: Any) -> Any:
    """Return a struct's values by the names of its fields; anything else as it is."""
    if part["type"] != "tuple":
        return value
    return {one["name"]: named(one, each) for one, each in zip(part["components"], value, strict=True)}


@dataclass(frozen=True)
class Event:
    """One log, read. `args` hold integers, addresses in lower case, and structs by field."""

    name: str
    address: str
    args: dict[str, Any]
    block: int
    tx: str
    index: int


class Interface:
    """What an artefact's `abi` says of a contract."""

    def __init__(self, abi: list[dict[str, Any]]) -> None:
        self.abi = abi

    @cached_property
    def functions(self) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in self.abi if one["type"] == "function"}

    @cached_property
    def events(self) -> dict[str, dict[str, Any]]:
        """By topic."""
        found = [one for one in self.abi if one["type"] == "event"]
        return {"0x" + keccak(text=signature(one)).hex(): one for one in found}

    def call(self, name: str, *values: Any) -> str:
        """Return the bytes of a call, as hex."""
        entry = self.functions[name]
        types = [type_of(one) for one in entry["inputs"]]
        return "0x" + (keccak(text=signature(entry))[:4] + encode(types, values)).hex()

    def answer(self, name: str, data: str) -> Any:
        """Return what a call answered: one value, or a tuple of them."""
        outputs = self.functions[name]["outputs"]
        values = decode([type_of(one) for one in outputs], bytes.fromhex(data.removeprefix("0x")))
        read = tuple(named(one, value) for one, value in zip(outputs, values, strict=True))
        return read[0] if len(read) == 1 else read

    def event(self, log: dict[str, Any]) -> Event | None:
        """Return a log, read; None where it is no event of this contract."""
        topics = log["topics"]
        entry = self.events.get(topics[0]) if topics else None
        if entry is None:
            return None
        inside = [one for one in entry["inputs"] if not one["indexed"]]
        data = decode([type_of(one) for one in inside], bytes.fromhex(log["data"].removeprefix("0x")))
        rest, indexed = iter(zip(inside, data, strict=True)), iter(topics[1:])
        args = {}
        for one in entry["inputs"]:
            if one["indexed"]:
                (args[one["name"]],) = decode([type_of(one)], bytes.fromhex(next(indexed)[2:]))
            else:
                part, value = next(rest)
                args[one["name"]] = named(part, value)
        place = (int(str(log.get("blockNumber") or "0x0"), 16), int(str(log.get("logIndex") or "0x0"), 16))
        return Event(
            entry["name"],
            log["address"].lower(),
            args,
            place[0],
            str(log.get("transactionHash") or ""),
            place[1],
        )
