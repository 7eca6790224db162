"""The contract's events: a table by topic of how each is read. Orders stand whole in their logs; no field is indexed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evenkeel.errors import NotUnderstood
from venues.evm.answers import Log
from venues.evm.codec import Event

_IO = "(address,bytes32)[]"
ORDER = f"(address,(address,address,bytes),{_IO},{_IO},bytes32)"
"""OrderV4: owner; interpreter, store and code; inputs and outputs as (token, vault); nonce."""
CONFIG = f"({ORDER},uint256,uint256,(address,bytes32[],bytes)[])"
"""TakeOrderConfigV4: order, index of its input, index of its output, signed contexts."""
CLEAR_CONFIG = "(uint256,uint256,uint256,uint256,bytes32,bytes32)"
"""ClearConfigV2: indexes of alice's input and output and of bob's, then both bounty vaults."""
STATE_CHANGE = "(bytes32,bytes32,bytes32,bytes32)"
"""ClearStateChangeV2: what alice and bob pay, what alice and bob receive."""


def _event(name: str, *fields: tuple[str, str]) -> Event:
    return Event(name, tuple((kind, field, False) for kind, field in fields))


CLEAR = _event("ClearV3", ("address", "sender"), (ORDER, "alice"), (ORDER, "bob"), (CLEAR_CONFIG, "config"))
AFTER_CLEAR = _event("AfterClearV2", ("address", "sender"), (STATE_CHANGE, "change"))
TAKE = _event(
    "TakeOrderV3", ("address", "sender"), (CONFIG, "config"), ("bytes32", "input"), ("bytes32", "output")
)
DEPOSIT = _event(
    "DepositV2", ("address", "sender"), ("address", "token"), ("bytes32", "vault"), ("uint256", "units")
)
WITHDRAW = _event(
    "WithdrawV2",
    ("address", "sender"),
    ("address", "token"),
    ("bytes32", "vault"),
    ("bytes32", "asked"),
    ("bytes32", "given"),
    ("uint256", "units"),
)


@dataclass(frozen=True, slots=True)
class Order:
    """Whose order it is, and its inputs and outputs as (token, vault)."""

    owner: str
    inputs: tuple[tuple[str, bytes], ...]
    outputs: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> Order:
        owner, _, inputs, outputs, _ = values
        return cls(owner, tuple(inputs), tuple(outputs))


@dataclass(frozen=True, slots=True)
class Take:
    """`taker_input` and `taker_output` are the taker's: what the order gave and what it received, as packed numbers."""

    sender: str
    order: Order
    input_index: int
    output_index: int
    taker_input: bytes
    taker_output: bytes


@dataclass(frozen=True, slots=True)
class Clear:
    """Two orders that are matched; what each pays and receives is in the next `AfterClear` of the transaction."""

    sender: str
    alice: Order
    bob: Order
    alice_indexes: tuple[int, int]
    bob_indexes: tuple[int, int]


@dataclass(frozen=True, slots=True)
class AfterClear:
    """What both orders of a clear paid and received, as packed numbers."""

    sender: str
    alice_output: bytes
    bob_output: bytes
    alice_input: bytes
    bob_input: bytes


@dataclass(frozen=True, slots=True)
class Deposit:
    """Units of a token put into a vault of the sender's."""

    sender: str
    token: str
    vault: bytes
    units: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Units of a token taken from a vault of the sender's; `asked` may be more than was there."""

    sender: str
    token: str
    vault: bytes
    asked: bytes
    given: bytes
    units: int


Decoded = Take | Clear | AfterClear | Deposit | Withdraw


def _take(found: dict[str, Any]) -> Take:
    order, input_index, output_index, _ = found["config"]
    return Take(found["sender"], Order.of(order), input_index, output_index, found["input"], found["output"])


def _clear(found: dict[str, Any]) -> Clear:
    alice_input, alice_output, bob_input, bob_output, _, _ = found["config"]
    return Clear(
        found["sender"],
        Order.of(found["alice"]),
        Order.of(found["bob"]),
        (alice_input, alice_output),
        (bob_input, bob_output),
    )


DECODERS: dict[str, tuple[Event, Callable[[dict[str, Any]], Decoded]]] = {
    CLEAR.topic: (CLEAR, _clear),
    AFTER_CLEAR.topic: (AFTER_CLEAR, lambda found: AfterClear(found["sender"], *found["change"])),
    TAKE.topic: (TAKE, _take),
    DEPOSIT.topic: (DEPOSIT, lambda found: Deposit(**found)),
    WITHDRAW.topic: (WITHDRAW, lambda found: Withdraw(**found)),
}
"""By topic: the event, and what is made of its fields."""
TOPICS = sorted(DECODERS)


def decode(log: Log) -> Decoded:
    """Return what a log says. Raises NotUnderstood for one of another event, or whose bytes do not fit."""
    known = DECODERS.get(log.topics[0] if log.topics else "")
    if known is None:
        raise NotUnderstood("log", "of an event that is not read")
    event, made = known
    return made(event.read(log))
