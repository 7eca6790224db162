"""How each lending protocol's instructions are laid out, behind one interface for the builder."""

from __future__ import annotations

import struct
from typing import Protocol as Interface

from solders.instruction import Instruction
from solders.pubkey import Pubkey

from twins.asgard.instructions import (
    ALL,
    Party,
    anchor,
    collateral_supply,
    readonly,
    signer,
    u64,
    vault,
    writable,
)
from twins.asgard.venue import (
    INSTRUCTIONS_SYSVAR,
    KAMINO,
    MARGINFI,
    RENT_SYSVAR,
    SOLEND,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    USDC,
    USDC_MINT,
    Token,
)


class Lender(Interface):
    """Amounts are base units; None means all. `wrap` surrounds the body with what makes it one flash loan."""

    def pda(self, wallet: Pubkey, token_a: Token, index: int) -> Pubkey: ...

    def init(self, party: Party, token_a: Token) -> list[Instruction]: ...

    def refresh(self, party: Party, token_a: Token) -> list[Instruction]: ...

    def wrap(
        self, party: Party, flash_usdc: int, body: list[Instruction], before: int
    ) -> list[Instruction]: ...

    def deposit(self, party: Party, token: Token, amount: int) -> Instruction: ...

    def withdraw(self, party: Party, token: Token, amount: int | None) -> Instruction: ...

    def borrow(self, party: Party, amount: int) -> Instruction: ...

    def repay(self, party: Party, amount: int | None) -> Instruction: ...


class KaminoLender:
    """KLend: Anchor, obligations as multiply accounts (tag 1 and up, one of 256 ids each)."""

    program = KAMINO.program
    venue = KAMINO

    def pda(self, wallet: Pubkey, token_a: Token, index: int) -> Pubkey:
        tag = bytes([1 + index // 256, index % 256])
        seeds = [tag[:1], tag[1:], bytes(wallet), bytes(KAMINO.market), bytes(token_a.mint), bytes(USDC_MINT)]
        return Pubkey.find_program_address(seeds, self.program)[0]

    def _ix(self, name: str, data: bytes, accounts: list) -> Instruction:  # type: ignore[type-arg]
        return Instruction(self.program, anchor(name) + data, accounts)

    def init(self, party: Party, token_a: Token) -> list[Instruction]:
        accounts = signer(party.wallet) + signer(party.wallet) + writable(party.pda)
        accounts += readonly(
            KAMINO.market, token_a.mint, USDC_MINT, party.wallet, RENT_SYSVAR, SYSTEM_PROGRAM
        )
        args = bytes([1 + party.index // 256, party.index % 256])
        return [self._ix("init_obligation", args, accounts)]

    def refresh(self, party: Party, token_a: Token) -> list[Instruction]:
        reserves = [
            self._ix(
                "refresh_reserve",
                b"",
                writable(KAMINO.bank(token)) + readonly(KAMINO.market, KAMINO.oracle(token)),
            )
            for token in (token_a, USDC)
        ]
        accounts = readonly(KAMINO.market) + writable(party.pda)
        accounts += writable(KAMINO.bank(token_a), KAMINO.bank(USDC))
        return [*reserves, self._ix("refresh_obligation", b"", accounts)]

    def wrap(self, party: Party, flash_usdc: int, body: list[Instruction], before: int) -> list[Instruction]:
        if not flash_usdc:
            return body
        tail = (
            writable(KAMINO.bank(USDC)) + readonly(USDC_MINT) + writable(vault(KAMINO, USDC), party.ata(USDC))
        )
        head = signer(party.wallet) + readonly(KAMINO.authority, KAMINO.market)
        end = readonly(INSTRUCTIONS_SYSVAR, TOKEN_PROGRAM)
        borrow = self._ix("flash_borrow_reserve_liquidity", u64(flash_usdc), head + tail + end)
        repay = self._ix(
            "flash_repay_reserve_liquidity", u64(flash_usdc) + bytes([before]), head + tail + end
        )
        return [borrow, *body, repay]

    def deposit(self, party: Party, token: Token, amount: int) -> Instruction:
        accounts = signer(party.wallet) + writable(party.pda) + readonly(KAMINO.market, KAMINO.authority)
        accounts += writable(KAMINO.bank(token)) + readonly(token.mint)
        accounts += writable(
            vault(KAMINO, token),
            KAMINO.collateral_mint(token),
            collateral_supply(KAMINO, token),
            party.ata(token),
        )
        accounts += readonly(self.program, TOKEN_PROGRAM, TOKEN_PROGRAM, INSTRUCTIONS_SYSVAR)
        return self._ix("deposit_reserve_liquidity_and_obligation_collateral", u64(amount), accounts)

    def withdraw(self, party: Party, token: Token, amount: int | None) -> Instruction:
        accounts = signer(party.wallet) + writable(party.pda) + readonly(KAMINO.market, KAMINO.authority)
        accounts += writable(KAMINO.bank(token)) + readonly(token.mint)
        accounts += writable(
            collateral_supply(KAMINO, token),
            KAMINO.collateral_mint(token),
            vault(KAMINO, token),
            party.ata(token),
        )
        accounts += readonly(self.program, TOKEN_PROGRAM, TOKEN_PROGRAM, INSTRUCTIONS_SYSVAR)
        name = "withdraw_obligation_collateral_and_redeem_reserve_collateral"
        return self._ix(name, u64(ALL if amount is None else amount), accounts)

    def borrow(self, party: Party, amount: int) -> Instruction:
        accounts = signer(party.wallet) + writable(party.pda) + readonly(KAMINO.market, KAMINO.authority)
        accounts += writable(KAMINO.bank(USDC)) + readonly(USDC_MINT)
        accounts += writable(vault(KAMINO, USDC), vault(KAMINO, USDC), party.ata(USDC))
        accounts += readonly(self.program, TOKEN_PROGRAM, INSTRUCTIONS_SYSVAR)
        return self._ix("borrow_obligation_liquidity", u64(amount), accounts)

    def repay(self, party: Party, amount: int | None) -> Instruction:
        accounts = signer(party.wallet) + writable(party.pda) + readonly(KAMINO.market)
        accounts += writable(KAMINO.bank(USDC)) + readonly(USDC_MINT)
        accounts += writable(vault(KAMINO, USDC), party.ata(USDC)) + readonly(
            TOKEN_PROGRAM, INSTRUCTIONS_SYSVAR
        )
        return self._ix("repay_obligation_liquidity", u64(ALL if amount is None else amount), accounts)


class MarginfiLender:
    """marginfi v2: Anchor; a flash loan is a bracket around the whole body, without an amount."""

    program = MARGINFI.program
    venue = MARGINFI

    def pda(self, wallet: Pubkey, token_a: Token, index: int) -> Pubkey:
        seeds = [b"marginfi_account", bytes(MARGINFI.market), bytes(wallet), struct.pack("<HH", index, 0)]
        return Pubkey.find_program_address(seeds, self.program)[0]

    def _ix(self, name: str, data: bytes, accounts: list) -> Instruction:  # type: ignore[type-arg]
        return Instruction(self.program, anchor(name) + data, accounts)

    def init(self, party: Party, token_a: Token) -> list[Instruction]:
        accounts = (
            readonly(MARGINFI.market) + writable(party.pda) + signer(party.wallet) + signer(party.wallet)
        )
        args = struct.pack("<HB", party.index, 0)
        accounts += readonly(INSTRUCTIONS_SYSVAR, SYSTEM_PROGRAM)
        return [self._ix("marginfi_account_initialize_pda", args, accounts)]

    def refresh(self, party: Party, token_a: Token) -> list[Instruction]:
        return []

    def wrap(self, party: Party, flash_usdc: int, body: list[Instruction], before: int) -> list[Instruction]:
        end_index = before + 1 + len(body)
        begin = writable(party.pda) + signer(party.wallet) + readonly(INSTRUCTIONS_SYSVAR)
        finish = writable(party.pda) + signer(party.wallet)
        return [
            self._ix("lending_account_start_flashloan", u64(end_index), begin),
            *body,
            self._ix("lending_account_end_flashloan", b"", finish),
        ]

    def _bank(self, party: Party, token: Token, outgoing: bool) -> list:  # type: ignore[type-arg]
        accounts = readonly(MARGINFI.market) + writable(party.pda) + signer(party.wallet)
        accounts += writable(MARGINFI.bank(token), party.ata(token))
        accounts += readonly(MARGINFI.authority) if outgoing else []
        accounts += writable(vault(MARGINFI, token)) + readonly(TOKEN_PROGRAM)
        return accounts + (readonly(MARGINFI.oracle(token)) if outgoing else [])

    def deposit(self, party: Party, token: Token, amount: int) -> Instruction:
        return self._ix("lending_account_deposit", u64(amount) + b"\0", self._bank(party, token, False))

    def withdraw(self, party: Party, token: Token, amount: int | None) -> Instruction:
        args = u64(amount or 0) + (b"\x01\x01" if amount is None else b"\0")
        return self._ix("lending_account_withdraw", args, self._bank(party, token, True))

    def borrow(self, party: Party, amount: int) -> Instruction:
        return self._ix("lending_account_borrow", u64(amount), self._bank(party, USDC, True))

    def repay(self, party: Party, amount: int | None) -> Instruction:
        args = u64(amount or 0) + (b"\x01\x01" if amount is None else b"\0")
        return self._ix("lending_account_repay", args, self._bank(party, USDC, False))


class SaveLender:
    """Save (Solend): one tag byte; obligations live at addresses derived from the wallet and a seed."""

    program = SOLEND.program
    venue = SOLEND

    def pda(self, wallet: Pubkey, token_a: Token, index: int) -> Pubkey:
        return Pubkey.create_with_seed(wallet, f"asgard-{token_a.symbol}-{index}", self.program)

    def _ix(self, tag: int, data: bytes, accounts: list) -> Instruction:  # type: ignore[type-arg]
        return Instruction(self.program, bytes([tag]) + data, accounts)

    def init(self, party: Party, token_a: Token) -> list[Instruction]:
        accounts = writable(party.pda) + readonly(SOLEND.market) + signer(party.wallet)
        return [self._ix(6, b"", accounts + readonly(RENT_SYSVAR, TOKEN_PROGRAM))]

    def refresh(self, party: Party, token_a: Token) -> list[Instruction]:
        both = (token_a, USDC)
        refreshed = [
            self._ix(3, b"", writable(SOLEND.bank(token)) + readonly(SOLEND.oracle(token))) for token in both
        ]
        accounts = writable(party.pda) + readonly(*(SOLEND.bank(token) for token in both))
        return [*refreshed, self._ix(7, b"", accounts)]

    def wrap(self, party: Party, flash_usdc: int, body: list[Instruction], before: int) -> list[Instruction]:
        if not flash_usdc:
            return body
        ours, theirs = party.ata(USDC), vault(SOLEND, USDC)
        borrow = writable(theirs, ours, SOLEND.bank(USDC)) + readonly(SOLEND.market, SOLEND.authority)
        repay = writable(ours, theirs, theirs, theirs, SOLEND.bank(USDC)) + readonly(SOLEND.market)
        tail = readonly(INSTRUCTIONS_SYSVAR, TOKEN_PROGRAM)
        return [
            self._ix(19, u64(flash_usdc), borrow + tail),
            *body,
            self._ix(20, u64(flash_usdc) + bytes([before]), repay + signer(party.wallet) + tail),
        ]

    def deposit(self, party: Party, token: Token, amount: int) -> Instruction:
        accounts = writable(
            party.ata(token),
            collateral_supply(SOLEND, token),
            SOLEND.bank(token),
            vault(SOLEND, token),
            SOLEND.collateral_mint(token),
        )
        accounts += readonly(SOLEND.market, SOLEND.authority) + writable(
            collateral_supply(SOLEND, token), party.pda
        )
        accounts += signer(party.wallet) + readonly(SOLEND.oracle(token)) + signer(party.wallet)
        return self._ix(14, u64(amount), accounts + readonly(TOKEN_PROGRAM))

    def withdraw(self, party: Party, token: Token, amount: int | None) -> Instruction:
        accounts = writable(
            collateral_supply(SOLEND, token), collateral_supply(SOLEND, token), SOLEND.bank(token)
        )
        accounts += writable(party.pda) + readonly(SOLEND.market, SOLEND.authority)
        accounts += writable(party.ata(token), SOLEND.collateral_mint(token), vault(SOLEND, token))
        accounts += signer(party.wallet) + signer(party.wallet) + readonly(TOKEN_PROGRAM)
        return self._ix(15, u64(ALL if amount is None else amount), accounts)

    def borrow(self, party: Party, amount: int) -> Instruction:
        accounts = writable(
            vault(SOLEND, USDC), party.ata(USDC), SOLEND.bank(USDC), vault(SOLEND, USDC), party.pda
        )
        accounts += readonly(SOLEND.market, SOLEND.authority) + signer(party.wallet) + readonly(TOKEN_PROGRAM)
        return self._ix(10, u64(amount), accounts)

    def repay(self, party: Party, amount: int | None) -> Instruction:
        accounts = writable(party.ata(USDC), vault(SOLEND, USDC), SOLEND.bank(USDC), party.pda)
        accounts += readonly(SOLEND.market) + signer(party.wallet) + readonly(TOKEN_PROGRAM)
        return self._ix(11, u64(ALL if amount is None else amount), accounts)


LENDERS: dict[int, Lender] = {
    KAMINO.id: KaminoLender(),
    MARGINFI.id: MarginfiLender(),
    SOLEND.id: SaveLender(),
}
