"""Lenders and router as permissive programs: they do to whomever the accounts name what the instruction says.

The twin's own lenders run only what its own builder made. A hostile builder's transactions need programs that obey anybody:
more willing than the real ones, which check vaults and health besides. Nothing here is shared with the validator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from solders.account import Account
from solders.pubkey import Pubkey

from tests.attacks.routers import SHAPES, readings
from twins.asgard.accounts import account_discriminator
from twins.asgard.instructions import ALL, anchor
from twins.asgard.venue import JUPITER, KAMINO, LIVE_PROTOCOLS, MARGINFI, POOL_OWNER, SOLEND, Protocol
from twins.solana import tokens
from twins.solana.chain import SolanaChain
from twins.solana.programs import EmulatedCall, EmulatedEffect, ProgramError

OWNER_AT = {KAMINO.id: 64, MARGINFI.id: 40, SOLEND.id: 42}
"""Where a position account names its owner."""


@dataclass(frozen=True)
class Verb:
    """What an instruction does: which account is the position, the signer, and the token account that it moves."""

    kind: str
    position: int
    signer: int
    tokens: int


def _verbs(protocol: Protocol) -> dict[bytes, Verb]:
    if protocol is KAMINO:
        return {
            anchor("init_obligation"): Verb("init", 2, 0, 0),
            anchor("deposit_reserve_liquidity_and_obligation_collateral"): Verb("deposit", 1, 0, 9),
            anchor("withdraw_obligation_collateral_and_redeem_reserve_collateral"): Verb("withdraw", 1, 0, 9),
            anchor("borrow_obligation_liquidity"): Verb("borrow", 1, 0, 8),
            anchor("repay_obligation_liquidity"): Verb("repay", 1, 0, 6),
            anchor("flash_borrow_reserve_liquidity"): Verb("flash_in", 0, 0, 6),
            anchor("flash_repay_reserve_liquidity"): Verb("flash_out", 0, 0, 6),
        }
    if protocol is MARGINFI:
        return {
            anchor("marginfi_account_initialize_pda"): Verb("init", 1, 2, 0),
            anchor("lending_account_deposit"): Verb("deposit", 1, 2, 4),
            anchor("lending_account_withdraw"): Verb("withdraw", 1, 2, 4),
            anchor("lending_account_borrow"): Verb("borrow", 1, 2, 4),
            anchor("lending_account_repay"): Verb("repay", 1, 2, 4),
        }
    return {
        b"\x06": Verb("init", 0, 2, 0),
        b"\x0e": Verb("deposit", 8, 9, 0),
        b"\x0f": Verb("withdraw", 3, 9, 6),
        b"\x0a": Verb("borrow", 4, 7, 1),
        b"\x0b": Verb("repay", 3, 5, 0),
        b"\x13": Verb("flash_in", 0, 0, 1),
        b"\x14": Verb("flash_out", 0, 6, 0),
    }


@dataclass
class Permissive:
    """Positions by address: whoever one names as its owner may take out what is in it. `moves` is the run at hand."""

    chain: SolanaChain
    held: dict[tuple[Pubkey, Pubkey], int] = field(default_factory=dict)
    owners: dict[Pubkey, Pubkey] = field(default_factory=dict)
    debts: dict[Pubkey, int] = field(default_factory=dict)
    moves: list[tuple[Pubkey, Pubkey, int]] = field(default_factory=list)
    """(owner of the position, mint, base units into it; a debt counts below zero)"""
    brought: dict[tuple[Pubkey, Pubkey], int] = field(default_factory=dict)
    """(owner, mint) -> most that instructions before a route may have brought: what a position holds, a loan."""

    def install(self) -> None:
        for protocol in LIVE_PROTOCOLS:
            self.chain.emulate(protocol.program, self._lender(protocol))
        self.chain.emulate(JUPITER, self.swap)

    def _holder(self, account: Pubkey) -> tuple[Pubkey, Pubkey]:
        """(owner, mint) as the token account itself says; the wallet's own where it is made in this transaction."""
        found = self.chain.svm.get_account(account)
        if found is None or not tokens.is_token_account(found):
            raise ProgramError(1, f"Error: {account} is no token account")
        state = tokens.read_token(found)
        return state.owner, state.mint

    def owner_of(self, protocol: Protocol, position: Pubkey) -> Pubkey | None:
        """Who may command a position."""
        if position in self.owners:
            return self.owners[position]
        account = self.chain.svm.get_account(position)
        at = OWNER_AT[protocol.id]
        if account is None or account.owner != protocol.program or len(account.data) < at + 32:
            return None
        return Pubkey.from_bytes(bytes(account.data[at : at + 32]))

    def swap(self, call: EmulatedCall) -> EmulatedEffect:
        """A route at the worst price that any reading of it allows. Only the arguments count, whatever follows them."""
        data, keys = bytes(call.data), [ref.pubkey for ref in call.accounts]
        shape = SHAPES.get(data[:8])
        if shape is None or len(keys) < 9:
            raise ProgramError(3, "Error: not a route")
        if not call.accounts[shape.authority].is_signer:
            raise ProgramError(3, "Error: the authority has not signed")
        instead = shape.target is not None and keys[shape.target] != JUPITER
        source = self._holder(keys[shape.source])
        target = self._holder(keys[shape.target if instead and shape.target else shape.destination])
        if source[0] != keys[shape.authority]:
            raise ProgramError(4, "Error: the authority does not own the source")
        # What earlier instructions of the transaction bring is not in the account yet.
        balance = max(self._balance(keys[shape.source]), self.brought.get(source, 0))
        found = readings(data, shape, balance)
        if not found:
            raise ProgramError(4, "Error: no reading of these amounts executes")
        amount, out = min(found, key=lambda one: one[1] / one[0])
        if max(amount, out) >= 2**60:
            raise ProgramError(4, "Error: no pool holds so much")
        deltas = [
            (*source, -amount),
            (POOL_OWNER, source[1], amount),
            (POOL_OWNER, target[1], -out),
            (*target, out),
        ]
        return EmulatedEffect(token_deltas=deltas)

    def _balance(self, account: Pubkey) -> int:
        found = self.chain.svm.get_account(account)
        return tokens.read_token(found).amount if found and tokens.is_token_account(found) else 0

    def _lender(self, protocol: Protocol) -> Callable[[EmulatedCall], EmulatedEffect]:
        verbs = _verbs(protocol)
        size = 1 if protocol is SOLEND else 8

        def lend(call: EmulatedCall) -> EmulatedEffect:
            data, keys = bytes(call.data), [ref.pubkey for ref in call.accounts]
            verb = verbs.get(data[:size])
            if verb is None:
                return EmulatedEffect()
            if max(verb.position, verb.signer, verb.tokens) >= len(keys) or len(data) < size + 8 * (
                verb.kind != "init"
            ):
                raise ProgramError(5, "Error: not enough accounts or data")
            amount = int.from_bytes(data[size : size + 8], "little")
            if protocol is MARGINFI and data[size + 8 : size + 10] == b"\x01\x01":
                amount = ALL
            return self._done(protocol, verb, call, keys, amount)

        return lend

    def _done(
        self, protocol: Protocol, verb: Verb, call: EmulatedCall, keys: list[Pubkey], amount: int
    ) -> EmulatedEffect:
        position, signer = keys[verb.position], keys[verb.signer]
        if verb.kind != "flash_in" and not call.accounts[verb.signer].is_signer:
            raise ProgramError(6, "Error: missing signature")
        if verb.kind == "init":
            self.owners[position] = signer
            return EmulatedEffect()
        holder, mint = self._holder(keys[verb.tokens])
        vault = protocol.authority
        if amount >= 2**60 and verb.kind.startswith("flash"):
            raise ProgramError(1, "Error: insufficient funds")
        if verb.kind == "flash_in":
            return EmulatedEffect(token_deltas=[(vault, mint, -amount), (holder, mint, amount)])
        if verb.kind == "flash_out":
            return EmulatedEffect(token_deltas=[(holder, mint, -amount), (vault, mint, amount)])
        owner = self.owner_of(protocol, position)
        if owner is None or (verb.kind in ("withdraw", "borrow") and owner != signer):
            raise ProgramError(7, "Error: not the owner of the position")
        if verb.kind == "withdraw" and amount == ALL:
            amount = self.held.get((position, mint), 0)
        if verb.kind == "repay" and amount == ALL:
            amount = self.debts.get(position, 0)
        if amount >= 2**60:
            raise ProgramError(1, "Error: insufficient funds")
        into = amount if verb.kind in ("deposit", "repay") else -amount
        self.moves.append((owner, mint, into))

        def landed(_: object) -> None:
            self.held[position, mint] = self.held.get((position, mint), 0) + into

        deltas = [(holder, mint, -into), (vault, mint, into)]
        return EmulatedEffect(token_deltas=deltas, on_commit=landed)


def obligation(owner: Pubkey) -> Account:
    """An empty obligation in the market, at klend's own offsets."""
    data = account_discriminator("Obligation") + bytes(24) + bytes(KAMINO.market) + bytes(owner)
    return Account(30_000_000, data.ljust(3344, b"\0"), KAMINO.program)
