"""Mutations of honest builds, and an account of value that is independent of the validator's own rules."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from solders.instruction import CompiledInstruction
from solders.message import MessageAddressTableLookup, MessageHeader, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import ID as SYSTEM
from solders.token.associated import get_associated_token_address
from solders.transaction import VersionedTransaction

from tests.attacks.programs import Permissive
from tests.attacks.scene import Scene
from twins.asgard.venue import (
    FEE_OWNER,
    LIVE_PROTOCOLS,
    POOL_OWNER,
    TIP_ACCOUNTS,
    TOKENS,
    USDC_MINT,
    WSOL_MINT,
)
from twins.solana import tokens
from twins.solana.chain import SolanaChain
from venues.solana.answers import AccountInfo
from venues.solana.rules.common import Expectation

Build = list[bytes]


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
            now = self._rng.choice((0, 1, was + 1, was * 2, was * 10, was // 2, 2**63, 2**64 - 1)) % 2**64
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


@dataclass
class Auditor:
    """Plays an approved build through on programs that obey anybody, and says what we would have lost."""

    scene: Scene
    world: Permissive
    price: Decimal = Decimal(200)
    executed: int = 0
    """Transactions that ran to their end: only these can prove anything."""

    def harm(self, build: Build, expectation: Expectation) -> str | None:
        """None where nobody but tips, fees, pools and the lender gains, and we lose no more than the rules promise.

        Each transaction is played on the state before the build: what fails moves nothing.
        """
        wallet = self.scene.wallet
        for raw in build:
            self.world.moves.clear()
            done = self.scene.chain.simulate(raw).execution
            if done.err is not None or not done.processed:
                continue
            self.executed += 1
            worth = Decimal(0)
            swapped = Decimal(0)
            for key, account in done.after.items():
                before = done.before.get(key)
                was, now = before.lamports if before else 0, account.lamports if account else 0
                held, holds = _token(before), _token(account)
                if key == wallet:
                    if account is None or account.owner != SYSTEM or bytes(account.data):
                        return "the wallet itself is gone"
                    worth += Decimal(now - was).scaleb(-9) * self.price
                    continue
                if held and held[0] == wallet and (not holds or holds[0] != wallet) and account is not None:
                    return f"our token account {key} changed hands"
                if holds and holds[0] == wallet and (holds[3] or holds[4]):
                    return f"our token account {key} has a delegate or a close authority"
                for state, sign in ((held, -1), (holds, 1)):
                    if state and state[0] == wallet:
                        worth += sign * self._usd(state[1], state[2])
                grown = holds[2] - (held[2] if held else 0) if holds else 0
                if grown > 0 and holds and holds[0] not in self._known():
                    return f"{grown} base units of {holds[1]} reached {holds[0]}"
                if holds and holds[0] == POOL_OWNER and grown:
                    swapped += abs(self._usd(holds[1], grown))
                if not holds and now > was and key not in TIP_ACCOUNTS and key.is_on_curve():
                    return f"{now - was} lamports reached {key}"
            for owner, mint, into in self.world.moves:
                if owner != wallet:
                    return f"position of {owner} got {into} of {mint}"
                worth += self._usd(mint, into)
            bound = self._bound(swapped, expectation)
            if worth < -bound:
                return f"we lose {-worth:.2f} USD, at most {bound:.2f} are explained"
        return None

    def _bound(self, swapped: Decimal, expectation: Expectation) -> Decimal:
        rules = self.scene.rules
        lamports = rules.exit_fee_cap_lamports + rules.tip_cap_lamports + rules.rent_cap_lamports
        share = rules.exit_price_tolerance if expectation.is_exit else rules.price_tolerance
        share += Decimal(expectation.slippage_bps) / 10_000
        return Decimal(lamports).scaleb(-9) * self.price + swapped * share * Decimal("1.15") + 1

    def _known(self) -> set[Pubkey]:
        return {self.scene.wallet, POOL_OWNER, FEE_OWNER, *(one.authority for one in LIVE_PROTOCOLS)}

    def _usd(self, mint: Pubkey, amount: int) -> Decimal:
        if mint == USDC_MINT:
            return Decimal(amount).scaleb(-6)
        return Decimal(amount).scaleb(-9) * self.price if mint == WSOL_MINT else Decimal(0)


def _token(account: object) -> tuple[Pubkey, Pubkey, int, bool, bool] | None:
    """(owner, mint, amount, has delegate, has close authority) of a token account."""
    if account is None or not tokens.is_token_account(account):  # type: ignore[arg-type]
        return None
    state = tokens.read_token(account)  # type: ignore[arg-type]
    return (
        state.owner,
        state.mint,
        state.amount,
        state.delegate is not None,
        state.close_authority is not None,
    )


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
