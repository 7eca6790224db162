"""Mutations of honest builds."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from solders.instruction import CompiledInstruction
from solders.message import MessageAddressTableLookup, MessageHeader, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import ID as SYSTEM
from solders.token.associated import get_associated_token_address
from solders.transaction import VersionedTransaction

from tests.attacks.routers import SHAPES
from tests.attacks.scene import Scene
from twins.asgard.instructions import anchor
from twins.asgard.venue import (
    LIVE_PROTOCOLS,
    TIP_ACCOUNTS,
    TOKENS,
)
from twins.solana.chain import SolanaChain
from venues.solana.answers import AccountInfo

Build = list[bytes]
ROUTES = {anchor("route"): 8, anchor("shared_accounts_route"): 9}
"""Where the steps begin in routes whose amounts stand behind them."""


class LiveAccounts(Mapping[Pubkey, AccountInfo | None]):
    """The chain as a view: whatever address is asked for, known or not. Rereads nothing that it has read."""

    def __init__(self, chain: SolanaChain) -> None:
        self._chain = chain
        self._read: dict[Pubkey, AccountInfo | None] = {}

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: Pubkey) -> AccountInfo | None:
        if key not in self._read:
            found = self._chain.svm.get_account(key)
            if len(self._read) > 5_000:
                self._read.clear()
            self._read[key] = found and AccountInfo(
                str(found.owner), found.lamports, bytes(found.data), found.executable
            )
        return self._read[key]

    def __iter__(self) -> Iterator[Pubkey]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


@dataclass
class Parts:
    """A v0 message, taken apart so that each piece can be bent by itself."""

    header: tuple[int, int, int]
    keys: list[Pubkey]
    steps: list[tuple[int, bytes, bytes]]
    lookups: list[tuple[Pubkey, bytes, bytes]]
    message: MessageV0

    @classmethod
    def of(cls, raw: bytes) -> Parts:
        message = VersionedTransaction.from_bytes(raw).message
        assert isinstance(message, MessageV0)
        head = message.header
        counts = (
            head.num_required_signatures,
            head.num_readonly_signed_accounts,
            head.num_readonly_unsigned_accounts,
        )
        return cls(
            counts,
            list(message.account_keys),
            [(one.program_id_index, bytes(one.data), bytes(one.accounts)) for one in message.instructions],
            [
                (one.account_key, bytes(one.writable_indexes), bytes(one.readonly_indexes))
                for one in message.address_table_lookups
            ],
            message,
        )

    def raw(self) -> bytes:
        message = MessageV0(
            MessageHeader(*self.header),
            self.keys,
            self.message.recent_blockhash,
            [CompiledInstruction(program, data, accounts) for program, data, accounts in self.steps],
            [MessageAddressTableLookup(*one) for one in self.lookups],
        )
        signers = max(1, self.header[0])
        return bytes(VersionedTransaction.populate(message, [Signature.default()] * signers))


class Mutator:
    """Bends one thing at a time, or a few. `foreign` are addresses that an attacker would like to see in our transaction."""

    def __init__(self, rng: random.Random, foreign: list[Pubkey], others: list[bytes]) -> None:
        self._rng = rng
        self._foreign = foreign
        self._others = others
        self._kinds: list[Callable[[Parts], None]] = [
            self._key,
            self._key,
            self._index,
            self._index,
            self._amount,
            self._amount,
            self._byte_of_data,
            self._discriminator,
            self._order,
            self._drop,
            self._repeat,
            self._lookup_index,
            self._table,
            self._header,
            self._program,
            self._inject,
            self._inject,
            self._longer,
            self._forge,
            self._forge,
            self._cheaper,
        ]

    def mutated(self, build: Build) -> Build:
        """A build with one transaction changed, sometimes with another one beside it."""
        rng = self._rng
        chosen = rng.randrange(len(build))
        raw = build[chosen]
        if rng.random() < 0.15:
            changed = bytearray(raw)
            for _ in range(rng.choice((1, 1, 2, 8))):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            if rng.random() < 0.1:
                changed = changed[: rng.randrange(len(changed))]
            out = bytes(changed)
        else:
            parts = Parts.of(raw)
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                rng.choice(self._kinds)(parts)
            try:
                out = parts.raw()
            except Exception:  # a message that cannot even be written
                out = raw[:-1]
        result = [*build[:chosen], out, *build[chosen + 1 :]]
        if rng.random() < 0.03:
            result.append(rng.choice(self._others))
        if rng.random() < 0.02:
            rng.shuffle(result)
        return result

    def _step(self, parts: Parts) -> int:
        return self._rng.randrange(len(parts.steps)) if parts.steps else -1

    def _key(self, parts: Parts) -> None:
        parts.keys[self._rng.randrange(len(parts.keys))] = self._rng.choice(self._foreign)

    def _program(self, parts: Parts) -> None:
        at = self._step(parts)
        if at >= 0:
            _, data, accounts = parts.steps[at]
            parts.steps[at] = (self._rng.randrange(len(parts.keys)), data, accounts)

    def _index(self, parts: Parts) -> None:
        at = self._step(parts)
        if at >= 0 and parts.steps[at][2]:
            program, data, accounts = parts.steps[at]
            bent = bytearray(accounts)
            loaded = sum(len(one[1]) + len(one[2]) for one in parts.lookups)
            bent[self._rng.randrange(len(bent))] = self._rng.randrange(min(256, len(parts.keys) + loaded + 1))
            parts.steps[at] = (program, data, bytes(bent))

    def _amount(self, parts: Parts) -> None:
        at = self._step(parts)
        if at >= 0 and len(parts.steps[at][1]) >= 8:
            program, data, accounts = parts.steps[at]
            place = self._rng.randrange(len(data) - 7)
            was = int.from_bytes(data[place : place + 8], "little")
            little = was * self._rng.randrange(850, 1000) // 1000
            now = self._rng.choice(
                (0, 1, was + 1, was * 2, was * 10, was // 2, 2**63, 2**64 - 1, little, little)
            )
            now %= 2**64
            parts.steps[at] = (
                program,
                data[:place] + now.to_bytes(8, "little") + data[place + 8 :],
                accounts,
            )

    def _byte_of_data(self, parts: Parts) -> None:
        at = self._step(parts)
        if at >= 0 and parts.steps[at][1]:
            program, data, accounts = parts.steps[at]
            bent = bytearray(data)
            bent[self._rng.randrange(len(bent))] = self._rng.randrange(256)
            parts.steps[at] = (program, bytes(bent), accounts)

    def _longer(self, parts: Parts) -> None:
        at = self._step(parts)
        if at >= 0:
            program, data, accounts = parts.steps[at]
            more = bytes(self._rng.randrange(256) for _ in range(self._rng.randrange(1, 20)))
            parts.steps[at] = (program, data + more if self._rng.random() < 0.7 else data[:-1], accounts)

    def _forge(self, parts: Parts) -> None:
        """Amounts that give everything away, some bytes before the fair ones, behind a step that nobody knows."""
        routes = [
            number for number, step in enumerate(parts.steps) if step[1][:8] in ROUTES and len(step[1]) > 36
        ]
        if not routes:
            return
        at = self._rng.choice(routes)
        program, data, accounts = parts.steps[at]
        tail, head = data[-19:], ROUTES[data[:8]]
        amount, quoted = int.from_bytes(tail[:8], "little"), self._rng.choice((0, 1, 10**6))
        unit = self._rng.choice((1, 2**8, 2**16, 2**24))
        rounded = (amount - amount % unit).to_bytes(8, "little")
        shift = self._rng.randrange(1, 40)
        steps = data[8:head] + b"\1\0\0\0" + bytes([self._rng.randrange(180, 256)]) + b"\x64\0\1"
        forged = bytearray(rounded + quoted.to_bytes(8, "little") + b"\x32\0\0" + bytes(shift))
        forged[shift:] = rounded + tail[8:] if self._rng.random() < 0.5 else tail
        parts.steps[at] = (program, data[:8] + steps + bytes(forged), accounts)

    def _cheaper(self, parts: Parts) -> None:
        """A quote some per cent below the fair one: what is missing is somebody else's."""
        routes = [number for number, step in enumerate(parts.steps) if step[1][:8] in SHAPES]
        if not routes:
            return
        at = self._rng.choice(routes)
        program, data, accounts = parts.steps[at]
        shape = SHAPES[data[:8]]
        place = (shape.head if shape.first else len(data) - 19) + (0 if shape.exact_out else 8)
        quoted = int.from_bytes(data[place : place + 8], "little") * self._rng.randrange(850, 1001) // 1000
        parts.steps[at] = (program, data[:place] + quoted.to_bytes(8, "little") + data[place + 8 :], accounts)

    def _discriminator(self, parts: Parts) -> None:
        one, other = self._step(parts), self._step(parts)
        if one >= 0:
            program, data, accounts = parts.steps[one]
            parts.steps[one] = (program, parts.steps[other][1][:8] + data[8:], accounts)

    def _order(self, parts: Parts) -> None:
        self._rng.shuffle(parts.steps)

    def _drop(self, parts: Parts) -> None:
        at = self._step(parts)
        if at >= 0:
            del parts.steps[at]

    def _repeat(self, parts: Parts) -> None:
        at = self._step(parts)
        if at >= 0:
            parts.steps.insert(self._rng.randrange(len(parts.steps) + 1), parts.steps[at])

    def _lookup_index(self, parts: Parts) -> None:
        if parts.lookups:
            table, writable, readonly = parts.lookups[0]
            both = bytearray(writable + readonly)
            if both:
                both[self._rng.randrange(len(both))] = self._rng.randrange(60)
                parts.lookups[0] = (table, bytes(both[: len(writable)]), bytes(both[len(writable) :]))

    def _table(self, parts: Parts) -> None:
        if parts.lookups:
            _, writable, readonly = parts.lookups[0]
            parts.lookups[0] = (self._rng.choice(self._foreign), writable, readonly)

    def _header(self, parts: Parts) -> None:
        bent = list(parts.header)
        bent[self._rng.randrange(3)] = self._rng.randrange(5)
        parts.header = (bent[0], bent[1], bent[2])

    def _inject(self, parts: Parts) -> None:
        """One more instruction of a program that is there already, over accounts that are or that an attacker adds."""
        rng = self._rng
        if rng.random() < 0.6:
            attacker = rng.choice(self._foreign)
            if attacker not in parts.keys:
                # A writable account without signature, behind the signers: every index behind it moves by one.
                where = parts.header[0]
                parts.keys.insert(where, attacker)
                parts.steps = [
                    (program + (program >= where), data, bytes(one + (one >= where) for one in accounts))
                    for program, data, accounts in parts.steps
                    if max((program, *accounts)) < 255
                ]
            data = rng.choice(
                (
                    b"\x02\0\0\0" + rng.choice((1, 10**6, 10**9)).to_bytes(8, "little"),
                    b"\x01\0\0\0" + bytes(attacker),
                    b"\x03" + (10**9).to_bytes(8, "little"),
                    b"\x06\x02\x01" + bytes(attacker),
                    b"\x09",
                    b"\xff\x02\x23\x06\x02\x01" + bytes(attacker),
                )
            )
        else:
            data = bytes(rng.randrange(256) for _ in range(rng.randrange(40)))
        count = len(parts.keys)
        accounts = bytes(rng.randrange(min(count, 256)) for _ in range(rng.randrange(1, 5)))
        parts.steps.insert(rng.randrange(len(parts.steps) + 1), (rng.randrange(count), data, accounts))


def foreign_keys(scene: Scene) -> list[Pubkey]:
    """What an attacker would put into our transaction."""
    attacker = scene.attacker.pubkey()
    atas = [get_associated_token_address(attacker, token.mint) for token in TOKENS]
    ours = [get_associated_token_address(scene.wallet, token.mint) for token in TOKENS]
    table = scene.chain.create_lookup_table([attacker, *atas] * 10)
    programs = [one.program for one in LIVE_PROTOCOLS]
    return [
        attacker,
        attacker,
        *atas,
        *ours,
        table,
        scene.wallet,
        Pubkey.new_unique(),
        SYSTEM,
        *programs,
        *TIP_ACCOUNTS[:2],
    ]


def decoded(build: list[str]) -> Build:
    return [base64.b64decode(one) for one in build]
