"""The logs that the contract writes, byte by byte: of takes, clears, vaults, and those that stand between them."""

from __future__ import annotations

from dataclasses import dataclass, field

from eth_abi.abi import encode
from eth_utils import keccak

VAULTS = "(address,bytes32)[]"
ORDER = f"(address,(address,address,bytes),{VAULTS},{VAULTS},bytes32)"
SIGNED_CONTEXT = "(address,bytes32[],bytes)"
TAKE_CONFIG = f"({ORDER},uint256,uint256,{SIGNED_CONTEXT}[])"
CLEAR_CONFIG = "(uint256,uint256,uint256,uint256,bytes32,bytes32)"
FOUR = "(bytes32,bytes32,bytes32,bytes32)"
TYPES = {
    "TakeOrderV3": ("address", TAKE_CONFIG, "bytes32", "bytes32"),
    "ClearV3": ("address", ORDER, ORDER, CLEAR_CONFIG),
    "AfterClearV2": ("address", FOUR),
    "ContextV2": ("address", "bytes32[][]"),
    "DepositV2": ("address", "address", "bytes32", "uint256"),
    "WithdrawV2": ("address", "address", "bytes32", "bytes32", "bytes32", "uint256"),
}
TOPIC = {name: "0x" + keccak(text=f"{name}({','.join(types)})").hex() for name, types in TYPES.items()}
TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
NO_VAULT = bytes(32)


@dataclass(frozen=True)
class Said:
    """A log before it has a place: who writes it, its topics and its bytes."""

    address: str
    topics: tuple[str, ...]
    data: bytes


@dataclass(frozen=True)
class Order:
    """An order of the book: whose, and its inputs and outputs as (token, vault)."""

    owner: str
    inputs: tuple[tuple[str, bytes], ...]
    outputs: tuple[tuple[str, bytes], ...]
    nonce: bytes = bytes(32)
    interpreter: str = "0x" + "1e" * 20
    store: str = "0x" + "5e" * 20
    code: bytes = bytes.fromhex("02000000040002000200020002000000")

    @property
    def values(self) -> tuple[object, ...]:
        """The order as it is encoded."""
        evaluable = (self.interpreter, self.store, self.code)
        return (self.owner, evaluable, list(self.inputs), list(self.outputs), self.nonce)


@dataclass(frozen=True)
class Book:
    """The writer of the logs: the contract at an address."""

    address: str
    contexts: tuple[bytes, ...] = field(default=(bytes(31) + b"\x01",))

    def _said(self, name: str, *values: object) -> Said:
        return Said(self.address, (TOPIC[name],), encode(TYPES[name], values))

    def context(self, sender: str) -> Said:
        """The calculation's context, which stands before each take and between the two logs of a clear."""
        return self._said("ContextV2", sender, [list(self.contexts)])

    def take(
        self,
        sender: str,
        order: Order,
        taker_input: bytes,
        taker_output: bytes,
        places: tuple[int, int] = (0, 0),
    ) -> Said:
        """A take. The amounts are the taker's, packed; `places` are the indexes of the order's input and output."""
        config = (order.values, *places, [])
        return self._said("TakeOrderV3", sender, config, taker_input, taker_output)

    def clear(self, sender: str, alice: Order, bob: Order) -> Said:
        """Two orders matched."""
        return self._said("ClearV3", sender, alice.values, bob.values, (0, 0, 0, 0, NO_VAULT, NO_VAULT))

    def after_clear(
        self, sender: str, alice_output: bytes, bob_output: bytes, alice_input: bytes, bob_input: bytes
    ) -> Said:
        """What the two of a clear paid and received."""
        return self._said("AfterClearV2", sender, (alice_output, bob_output, alice_input, bob_input))

    def deposit(self, sender: str, token: str, vault: bytes, units: int) -> Said:
        return self._said("DepositV2", sender, token, vault, units)

    def withdraw(self, sender: str, token: str, vault: bytes, asked: bytes, given: bytes, units: int) -> Said:
        return self._said("WithdrawV2", sender, token, vault, asked, given, units)


def transfer(token: str, sender: str, receiver: str, units: int) -> Said:
    """A token's own log, of a vault that is a wallet."""
    indexed = tuple("0x" + "00" * 12 + one[2:].lower() for one in (sender, receiver))
    return Said(token, (TRANSFER, *indexed), encode(("uint256",), (units,)))
