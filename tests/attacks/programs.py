"""Lender and router as obedient programs: they do to whomever the accounts name what the instruction says, as the real ones do.

The twin's own lenders run only what its own builder made. A hostile builder's transactions need programs that obey anybody.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from solders.account import Account
from solders.pubkey import Pubkey

from twins.asgard.emulation import account_discriminator
from twins.asgard.instructions import anchor
from twins.asgard.venue import JUPITER, KAMINO, POOL_OWNER
from twins.solana import tokens
from twins.solana.chain import SolanaChain
from twins.solana.programs import EmulatedCall, EmulatedEffect, ProgramError


@dataclass
class Obedient:
    """Balances by obligation and mint; whoever the obligation names as its owner may take them out again."""

    chain: SolanaChain
    held: dict[tuple[Pubkey, Pubkey], int] = field(default_factory=dict)
    owners: dict[Pubkey, Pubkey] = field(default_factory=dict)

    def install(self) -> None:
        self.chain.emulate(KAMINO.program, self.lend)
        self.chain.emulate(JUPITER, self.swap)

    def _holder(self, account: Pubkey) -> tuple[Pubkey, Pubkey]:
        """(owner, mint) as the token account itself says."""
        found = self.chain.svm.get_account(account)
        if found is None or not tokens.is_token_account(found):
            raise ProgramError(1, f"Error: {account} is no token account")
        state = tokens.read_token(found)
        return state.owner, state.mint

    def swap(self, call: EmulatedCall) -> EmulatedEffect:
        """A `route` at the worst price that it allows."""
        if bytes(call.data[:8]) != anchor("route"):
            return EmulatedEffect()
        keys = [ref.pubkey for ref in call.accounts]
        amount, quoted, slippage, fee = struct.unpack("<QQHB", call.data[-19:])
        source, target = self._holder(keys[2]), self._holder(keys[4] if keys[4] != JUPITER else keys[3])
        out = quoted * (10_000 - slippage) // 10_000
        return EmulatedEffect(
            token_deltas=[
                (*source, -amount),
                (POOL_OWNER, source[1], amount),
                (POOL_OWNER, target[1], -out),
                (*target, out),
            ]
        )

    def lend(self, call: EmulatedCall) -> EmulatedEffect:
        keys, data = [ref.pubkey for ref in call.accounts], bytes(call.data)
        if data[:8] == anchor("init_obligation"):
            self.owners[keys[2]] = keys[0]
            return EmulatedEffect(accounts={keys[2]: obligation(keys[0])})
        if data[:8] == anchor("deposit_reserve_liquidity_and_obligation_collateral"):
            owner, mint = self._holder(keys[9])
            amount = int.from_bytes(data[8:16], "little")
            place = (keys[1], mint)

            def landed(_: object) -> None:
                self.held[place] = self.held.get(place, 0) + amount

            return EmulatedEffect(
                token_deltas=[(owner, mint, -amount), (KAMINO.authority, mint, amount)], on_commit=landed
            )
        if data[:8] == anchor("withdraw_obligation_collateral_and_redeem_reserve_collateral"):
            if self.owners.get(keys[1]) != keys[0] or not call.accounts[0].is_signer:
                raise ProgramError(2, "Error: not the owner of the obligation")
            receiver, mint = self._holder(keys[9])
            amount = min(int.from_bytes(data[8:16], "little"), self.held.get((keys[1], mint), 0))
            return EmulatedEffect(token_deltas=[(KAMINO.authority, mint, -amount), (receiver, mint, amount)])
        if data[:8] == anchor("borrow_obligation_liquidity"):
            receiver, mint = self._holder(keys[8])
            amount = int.from_bytes(data[8:16], "little")
            return EmulatedEffect(token_deltas=[(KAMINO.authority, mint, -amount), (receiver, mint, amount)])
        return EmulatedEffect()


def obligation(owner: Pubkey) -> Account:
    """An empty obligation in the market, at klend's own offsets."""
    data = account_discriminator("Obligation") + bytes(24) + bytes(KAMINO.market) + bytes(owner)
    return Account(30_000_000, data.ljust(3344, b"\0"), KAMINO.program)


