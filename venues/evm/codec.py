"""Calls, answers, events and errors of contracts in bytes, by the signatures that are written down with them (Solidity ABI)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError, EncodingError
from eth_hash.auto import keccak

from evenkeel.errors import Bug, NotUnderstood
from venues.evm.answers import Log

PANIC, ERROR = bytes.fromhex("4e487b71"), bytes.fromhex("08c379a0")
"""`Panic(uint256)` and `Error(string)`, which the compiler makes by itself."""


@dataclass(frozen=True)
class Function:
    """A contract's function: name, types of its arguments, types of its answer."""

    name: str
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()

    @cached_property
    def selector(self) -> bytes:
        """The first four bytes of a call."""
        return keccak(f"{self.name}({','.join(self.takes)})".encode())[:4]

    def call(self, *values: Any) -> bytes:
        """Return the bytes of a call. Raises Bug for values that the types cannot hold: they were to be checked before."""
        try:
            return self.selector + abi_encode(self.takes, values)
        except (EncodingError, TypeError, ValueError) as error:
            raise Bug(f"{self.name} cannot be called so: {error}") from None

    def arguments(self, calldata: bytes) -> tuple[Any, ...]:
        """Return the arguments of a call. Raises NotUnderstood for one of another function, or with bytes left over."""
        values = _decoded(self.name, self.takes, calldata[4:])
        if calldata[:4] != self.selector or self.call(*values) != calldata:
            raise NotUnderstood("calldata", f"not a call of {self.name}")
        return values

    def answer(self, answered: bytes) -> Any:
        """Return the answer, alone where it is one. Raises NotUnderstood."""
        values = _decoded(self.name, self.gives, answered)
        return values[0] if len(values) == 1 else values


@dataclass(frozen=True)
class Event:
    """A contract's event: name and its fields as (type, name, whether it is indexed)."""

    name: str
    fields: tuple[tuple[str, str, bool], ...]

    @classmethod
    def of(cls, text: str) -> Event:
        """Return the event of a line such as `Transfer(address indexed from,address indexed to,uint256 value)`."""
        name, inside = text.split("(", 1)
        parts = re.split(r",(?![^()]*\))", inside.rstrip().removesuffix(")"))
        fields = []
        for part in parts:
            words = part.split()
            fields.append((words[0], words[-1], "indexed" in words[1:-1]))
        return cls(name.strip(), tuple(fields))

    @cached_property
    def topic(self) -> str:
        """What stands first among the topics of its logs."""
        types = ",".join(kind for kind, _, _ in self.fields)
        return "0x" + keccak(f"{self.name}({types})".encode()).hex()

    def read(self, log: Log) -> dict[str, Any]:
        """Return its fields by name; addresses in lower case. Raises NotUnderstood for another event, or an odd one."""
        indexed = [(kind, name) for kind, name, is_indexed in self.fields if is_indexed]
        plain = [(kind, name) for kind, name, is_indexed in self.fields if not is_indexed]
        if not log.topics or log.topics[0] != self.topic or len(log.topics) != len(indexed) + 1:
            raise NotUnderstood("log", f"not {self.name}")
        found = {
            name: _decoded(self.name, (kind,), bytes.fromhex(topic[2:]))[0]
            for (kind, name), topic in zip(indexed, log.topics[1:], strict=True)
        }
        values = _decoded(self.name, tuple(kind for kind, _ in plain), log.data)
        found |= {name: value for (_, name), value in zip(plain, values, strict=True)}
        return found


class Errors:
    """A contract's own errors, by their first four bytes."""

    def __init__(self, *signatures: str) -> None:
        self._names = {keccak(text.encode())[:4]: text for text in signatures}

    def words(self, revert: object) -> str:
        """Return a revert in words: the error's name with its values, the compiler's own reason, or its bytes."""
        try:
            raw = bytes.fromhex(str(revert).removeprefix("0x"))
        except ValueError:
            return "reverted"
        selector, rest = raw[:4], raw[4:]
        try:
            if selector == ERROR:
                return f"reverted: {abi_decode(('string',), rest)[0]}"
            if selector == PANIC:
                return f"reverted: panic {abi_decode(('uint256',), rest)[0]:#04x}"
            if selector in self._names:
                text = self._names[selector]
                types = [one for one in text.split("(", 1)[1].removesuffix(")").split(",") if one]
                values = ", ".join(str(value) for value in abi_decode(types, rest))
                return f"{text.split('(', 1)[0]}({values})" if values else text.split("(", 1)[0]
        except (DecodingError, ValueError, OverflowError):
            return f"reverted with 0x{selector.hex()} and bytes that do not fit it"
        return f"reverted with 0x{selector.hex()}" if selector else "reverted without a reason"


def _decoded(what: str, types: tuple[str, ...], content: bytes) -> tuple[Any, ...]:
    try:
        return tuple(abi_decode(types, content))
    except (DecodingError, ValueError, OverflowError) as error:
        raise NotUnderstood("contract", f"{what}: {type(error).__name__} in {len(content)} bytes") from None
