"""Emulated programs: a true executable that does nothing, and handlers that say what it did."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from solders.account import Account
from solders.instruction import Instruction
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.signature import Signature

from twins.solana.ledger import LandedTransaction


@dataclass(frozen=True)
class AccountRef:
    """An account of an instruction, lookup tables resolved."""

    pubkey: Pubkey
    is_signer: bool
    is_writable: bool


@dataclass(frozen=True)
class EmulatedCall:
    """One top-level instruction of an emulated program, as the program would see it."""

    program_id: Pubkey
    data: bytes
    accounts: tuple[AccountRef, ...]
    fee_payer: Pubkey
    signature: Signature
    now_ms: int
    instructions: tuple[Instruction, ...]
    """All top-level instructions of the transaction."""
    index: int
    """Which of `instructions` this call is."""


@dataclass(frozen=True)
class EmulatedEffect:
    """What the call does when the whole transaction succeeds; all of it or nothing."""

    token_deltas: Sequence[tuple[Pubkey, Pubkey, int]] = ()
    """(owner, mint, signed amount in base units) on the owner's associated token account."""
    accounts: Mapping[Pubkey, Account] = field(default_factory=dict)
    """Accounts as they are afterwards."""
    on_commit: Callable[[LandedTransaction], None] | None = None
    """Runs exactly once, when the transaction has landed."""
    logs: Sequence[str] = ()
    """Lines after "Program log: "."""
    lamport_deltas: Sequence[tuple[Pubkey, int]] = ()
    """(account, signed lamports), e.g. the rent of a position account."""


class ProgramError(Exception):
    """The program refuses: the transaction fails at this instruction with Custom(`code`) and pays its fee."""

    def __init__(self, code: int, log: str = "") -> None:
        super().__init__(f"custom program error: {code:#x} {log}".rstrip())
        self.code = code
        self.log = log


Handler = Callable[[EmulatedCall], EmulatedEffect]

_EXIT = bytes.fromhex("9500000000000000")


def _elf(text: bytes) -> bytes:
    """A minimal 64-bit sBPF ELF whose entry point is `text`: one load segment, .text and .shstrtab."""
    names = b"\0.text\0.shstrtab\0"
    text_at = 64 + 56
    names_at = text_at + len(text)
    sections_at = -(-(names_at + len(names)) // 8) * 8
    header = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 247, 1, text_at, 64, sections_at, 0, 64, 56, 1, 64, 3, 2)
    segment = struct.pack("<IIQQQQQQ", 1, 5, text_at, text_at, text_at, len(text), len(text), 0x1000)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 6, text_at, text_at, len(text), 0, 0, 8, 0)
    sections += struct.pack("<IIQQQQIIQQ", 7, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    body = header + segment + text + names
    return body.ljust(sections_at, b"\0") + sections


def noop_elf() -> bytes:
    """Return the ELF of `mov64 r0, 0; exit`: succeeds on any accounts and data."""
    return _elf(bytes.fromhex("b700000000000000") + _EXIT)


def failing_elf(code: int) -> bytes:
    """Return the ELF of `lddw r0, code; exit`: fails with Custom(`code`). Custom(0) has its own return value, 1 << 32."""
    value = code if code else 1 << 32
    low, high = value & 0xFFFFFFFF, value >> 32
    return _elf(struct.pack("<BBhI", 0x18, 0, 0, low) + struct.pack("<BBhI", 0, 0, 0, high) + _EXIT)


class Programs:
    """The emulated programs of one chain."""

    def __init__(self, svm: LiteSVM) -> None:
        self._svm = svm
        self._noop = noop_elf()
        self._handlers: dict[Pubkey, Handler] = {}
        self._loaded: set[Pubkey] = set()

    def add_noop(self, program_id: Pubkey) -> None:
        if program_id not in self._loaded:
            self._svm.add_program(program_id, self._noop)
            self._loaded.add(program_id)

    def emulate(self, program_id: Pubkey, handler: Handler) -> None:
        self.add_noop(program_id)
        self._handlers[program_id] = handler

    def handler(self, program_id: Pubkey) -> Handler | None:
        return self._handlers.get(program_id)

    def make_fail(self, program_id: Pubkey, code: int) -> None:
        """Make a program fail until `restore`: it fails by itself, so that the SVM charges the fee and keeps the
        history.
        """
        self._svm.add_program(program_id, failing_elf(code))

    def restore(self, program_id: Pubkey) -> None:
        self._svm.add_program(program_id, self._noop)
