"""The logs that the contract writes, byte by byte: of takes, clears, vaults, and those that stand between them."""

from __future__ import annotations

from dataclasses import dataclass

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
class Take:
    """A take of an order. The amounts are the taker's, packed; `places` are the indexes of the order's input and output."""

    order: Order
    taker_input: bytes
    taker_output: bytes
    places: tuple[int, int] = (0, 0)

    @property
    def config(self) -> tuple[object, ...]:
        """The take as it is encoded."""
        return (self.order.values, *self.places, [])


@dataclass(frozen=True)
class Clear:
    """Two orders matched, and what each paid and received, packed."""

    alice: Order
    bob: Order
    alice_output: bytes
    bob_output: bytes
    alice_input: bytes
    bob_input: bytes

    @property
    def config(self) -> tuple[object, ...]:
        """Which input and output of each order, and where bounties go, as it is encoded."""
        return (0, 0, 0, 0, NO_VAULT, NO_VAULT)

    @property
    def change(self) -> tuple[object, ...]:
        """The amounts as they are encoded."""
        return (self.alice_output, self.bob_output, self.alice_input, self.bob_input)


@dataclass(frozen=True)
class Paid:
    """A token's move between two wallets, of a vault that is none."""

    token: str
    sender: str
    receiver: str
    units: int


Act = Take | Clear | Paid


@dataclass(frozen=True)
class Book:
    """The writer of the logs: the contract at an address."""

    address: str

    def _said(self, name: str, *values: object) -> Said:
        return Said(self.address, (TOPIC[name],), encode(TYPES[name], values))

    def context(self, sender: str) -> Said:
        """The calculation's context, which stands before each take and twice between the two logs of a clear."""
        return self._said("ContextV2", sender, [[(1).to_bytes(32, "big")]])

    def logs(self, sender: str, act: Act) -> list[Said]:
        """Return what one act of a transaction writes, in order."""
        if isinstance(act, Paid):
            return [transfer(act.token, act.sender, act.receiver, act.units)]
        if isinstance(act, Take):
            taken = self._said("TakeOrderV3", sender, act.config, act.taker_input, act.taker_output)
            return [self.context(sender), taken]
        return [
            self._said("ClearV3", sender, act.alice.values, act.bob.values, act.config),
            self.context(sender),
            self.context(sender),
            self._said("AfterClearV2", sender, act.change),
        ]

    def deposit(self, sender: str, token: str, vault: bytes, units: int) -> Said:
        return self._said("DepositV2", sender, token, vault, units)

    def withdraw(self, sender: str, token: str, vault: bytes, asked: bytes, given: bytes, units: int) -> Said:
        return self._said("WithdrawV2", sender, token, vault, asked, given, units)


def transfer(token: str, sender: str, receiver: str, units: int) -> Said:
    """A token's own log, of a vault that is a wallet."""
    indexed = tuple("0x" + "00" * 12 + one[2:].lower() for one in (sender, receiver))
    return Said(token, (TRANSFER, *indexed), encode(("uint256",), (units,)))
