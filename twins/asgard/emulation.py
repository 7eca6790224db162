"""Runs landed builds: the lending programs and routers of the chain ask here what a transaction does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from solders.account import Account
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from twins.asgard.book import Holding, LendingBook
from twins.asgard.instructions import SHARED_AUTHORITY, collateral_supply, lookup_addresses, vault
from twins.asgard.plans import NO_POSITION, UNKNOWN_INSTRUCTIONS, Plan, commit, settle
from twins.asgard.venue import (
    FEE_OWNER,
    KAMINO,
    LIVE_PROTOCOLS,
    MARGINFI,
    POOL_OWNER,
    ROUTERS,
    TIP_ACCOUNTS,
    TOKENS,
    USDC_MINT,
    Market,
    Protocol,
    Token,
)
from twins.solana import tokens
from twins.solana.chain import SolanaChain
from twins.solana.ledger import LandedTransaction
from twins.solana.programs import EmulatedCall, EmulatedEffect, ProgramError

POOL_TOKENS = 10_000_000
POOL_USDC = 10_000_000_000
TIP_ACCOUNT_LAMPORTS = 1_000_000_000
"""They exist on chain, or a small tip could not be paid."""
MARKET_ACCOUNT_LAMPORTS = 10_000_000
POSITION_ACCOUNT_LAMPORTS = 30_000_000
"""Rent of a position account. It is not charged to the wallet."""


@dataclass(frozen=True)
class Step:
    """What one transaction of a build means. `driver` is the instruction that carries the effects, -1 for
    none.
    """

    plan: Plan
    driver: int
    tip_lamports: int
    is_setup: bool = False
    creates_account: bool = False


def fingerprint(instructions: Iterable[Instruction]) -> bytes:
    """Return a name for a list of instructions by program, accounts and data."""
    digest = hashlib.sha256()
    for instruction in instructions:
        digest.update(bytes(instruction.program_id))
        for meta in instruction.accounts:
            digest.update(bytes(meta.pubkey))
        data = bytes(instruction.data)
        digest.update(len(data).to_bytes(4, "little") + data)
    return digest.digest()


class Emulation:
    """The programs at the lending protocols' and routers' ids. A build's effects come with its driver
    instruction.
    """

    def __init__(self, chain: SolanaChain, book: LendingBook) -> None:
        self._book = book
        self.keys = chain.keys
        self._steps: dict[bytes, Step] = {}
        self.initialised: dict[str, tuple[str, Market]] = {}
        """Position accounts that exist on chain: owner and market, by PDA."""
        self.worse_bps: dict[str, Decimal] = {}
        """By signature: how much worse than the market its swap executes."""
        self.without_effect: set[str] = set()
        """Signatures that land without error and do nothing."""
        for token in TOKENS:
            chain.ensure_mint(token.mint, token.decimals)
            stock = (POOL_USDC if token.mint == USDC_MINT else POOL_TOKENS) * 10**token.decimals
            for owner in (POOL_OWNER, *(protocol.authority for protocol in LIVE_PROTOCOLS)):
                chain.set_token_balance(owner, token.mint, stock)
            chain.set_token_balance(SHARED_AUTHORITY, token.mint, 0)
        chain.set_token_balance(FEE_OWNER, USDC_MINT, 0)
        for account in (*TIP_ACCOUNTS, POOL_OWNER, *(protocol.authority for protocol in LIVE_PROTOCOLS)):
            chain.airdrop(account, TIP_ACCOUNT_LAMPORTS)
        for protocol in LIVE_PROTOCOLS:
            for address in _market_accounts(protocol):
                if chain.account(address) is None:
                    chain.set_account(address, Account(MARKET_ACCOUNT_LAMPORTS, bytes(8), protocol.program))
        self.tables = {
            protocol.id: chain.create_lookup_table(lookup_addresses(protocol)) for protocol in LIVE_PROTOCOLS
        }
        for program in (*(protocol.program for protocol in LIVE_PROTOCOLS), *ROUTERS.values()):
            chain.emulate(program, self.run)

        def seized(holding: Holding) -> None:
            """A liquidator's transaction changes the position's account as the owner's do."""
            wallet = Pubkey.from_string(holding.owner)
            account = position_account(holding.market, wallet, holding.tokens, holding.debt_usd)
            chain.set_account(Pubkey.from_string(holding.pda), account)

        book.on_liquidation = seized

    def register(self, instructions: list[Instruction], step: Step) -> None:
        self._steps[fingerprint(instructions)] = step

    def run(self, call: EmulatedCall) -> EmulatedEffect:
        """Run an emulated program: nothing but a log line, except at the driver."""
        step = self._steps.get(fingerprint(call.instructions))
        if step is None:
            raise ProgramError(UNKNOWN_INSTRUCTIONS, "Error: these instructions were never built here")
        if call.index != step.driver:
            return EmulatedEffect(logs=["Instruction: ok"])
        if call.fee_payer != step.plan.wallet:
            raise ProgramError(NO_POSITION, "Error: the signer is not the owner")
        self._book.catch_up(call.now_ms)
        return self._set_up(step.plan) if step.is_setup else self._settled(step, call)

    def _set_up(self, plan: Plan) -> EmulatedEffect:
        def landed(_: LandedTransaction) -> None:
            self.initialised.setdefault(plan.pda, (str(plan.wallet), plan.market))

        accounts = (
            {}
            if plan.pda in self.initialised
            else {Pubkey.from_string(plan.pda): position_account(plan.market, plan.wallet, 0, 0)}
        )
        return EmulatedEffect(accounts=accounts, on_commit=landed, logs=["Instruction: set up"])

    def _settled(self, step: Step, call: EmulatedCall) -> EmulatedEffect:
        plan = step.plan
        if str(call.signature) in self.without_effect:
            return EmulatedEffect(logs=["Instruction: ok"])
        if plan.opens and not step.creates_account and plan.pda not in self.initialised:
            raise ProgramError(NO_POSITION, f"Error: position account {plan.pda} is not initialised")
        worse_bps = self.worse_bps.get(str(call.signature), Decimal(0))
        result = settle(self._book, plan, call.now_ms, worse_bps)

        def landed(transaction: LandedTransaction) -> None:
            self.initialised.setdefault(plan.pda, (str(plan.wallet), plan.market))
            execution = result.execution(
                str(transaction.signature),
                transaction.slot,
                transaction.time_ms,
                transaction.fee_lamports,
                step.tip_lamports,
            )
            commit(self._book, result, execution, call.now_ms)

        account = position_account(plan.market, plan.wallet, result.tokens_after, result.debt_after)
        return EmulatedEffect(
            token_deltas=result.token_deltas(),
            accounts={Pubkey.from_string(plan.pda): account},
            on_commit=landed,
            logs=[f"Asgard {plan.kind} {plan.pda}"],
        )


def vault_balance(chain: SolanaChain, protocol: Protocol, token: Token) -> Decimal:
    """Return what lies in a reserve's vault, in whole tokens."""
    account = chain.svm.get_account(vault(protocol, token))
    held = tokens.read_token(account).amount if account and tokens.is_token_account(account) else 0
    return Decimal(held).scaleb(-token.decimals)


def _market_accounts(protocol: Protocol) -> list[Pubkey]:
    """What a lender's instructions name and read: it stands on chain, whatever is in it."""
    found = [protocol.market]
    for token in TOKENS:
        found += [protocol.bank(token), protocol.oracle(token), protocol.collateral_mint(token)]
        found += [collateral_supply(protocol, token)]
    return found


def position_account(
    market: Market, wallet: Pubkey, tokens: Decimal | int, debt_usd: Decimal | int
) -> Account:
    """Return the position's account as its program keeps it: discriminator, market and owner at their true offsets.

    What it holds and owes (whole tokens, USD) stands where the program has it too, as of the last transaction that touched
    it; one collateral token or share is one base unit here.
    """
    protocol: Protocol = market.protocol
    pool, owner = bytes(protocol.market), bytes(wallet)
    held = int(Decimal(tokens).scaleb(market.token_a.decimals))
    debt = int(Decimal(debt_usd).scaleb(6))
    if protocol is KAMINO:
        data = account_discriminator("Obligation") + bytes(24) + pool + owner
        size = 3344
    elif protocol is MARGINFI:
        data = account_discriminator("MarginfiAccount") + pool + owner
        size = 2312
    else:
        data = b"\x01" + bytes(9) + pool + owner
        size = 1300
    content = bytearray(data.ljust(size, b"\0"))
    asset_bank, usdc_bank = bytes(protocol.bank(market.token_a)), bytes(protocol.bank(TOKENS[-1]))
    if protocol is KAMINO:
        places = {96: asset_bank, 128: held.to_bytes(8, "little")} if held else {}
        places |= {1208: usdc_bank, 1296: (debt << 60).to_bytes(16, "little")} if debt else {}
    elif protocol is MARGINFI:
        places = {72: b"\1" + asset_bank, 112: (held << 48).to_bytes(16, "little")} if held else {}
        places |= {176: b"\1" + usdc_bank, 232: (debt << 48).to_bytes(16, "little")} if debt else {}
    else:
        places = {202: bytes([held > 0, debt > 0])}
        places |= {204: asset_bank, 236: held.to_bytes(8, "little")} if held else {}
        at = 292 if held else 204
        places |= {at: usdc_bank, at + 48: (debt * 10**18).to_bytes(16, "little")} if debt else {}
    for at, found in places.items():
        content[at : at + len(found)] = found
    return Account(POSITION_ACCOUNT_LAMPORTS, bytes(content), protocol.program)


def account_discriminator(name: str) -> bytes:
    return hashlib.sha256(f"account:{name}".encode()).digest()[:8]
