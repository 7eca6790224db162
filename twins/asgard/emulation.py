"""Runs landed builds: the lending programs and routers of the chain ask here what a transaction does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from solders.account import Account
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from twins.asgard.accounts import Banks, BankState, Worth, position_account
from twins.asgard.book import Holding, LendingBook
from twins.asgard.instructions import SHARED_AUTHORITY, collateral_supply, lookup_addresses, vault
from twins.asgard.plans import NO_POSITION, UNKNOWN_INSTRUCTIONS, Plan, commit, settle
from twins.asgard.venue import (
    FEE_OWNER,
    LIVE_PROTOCOLS,
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
        self._chain = chain
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
            worth = Worth(holding.lend_mark.exp(), holding.borrow_mark.exp())
            account = position_account(holding.market, wallet, holding.tokens, holding.debt_usd, worth)
            chain.set_account(Pubkey.from_string(holding.pda), account)

        book.on_liquidation = seized
        chain.worked_out.update(Banks(self._bank).readers())
        chain.before_reading = lambda: book.catch_up(chain.world.now_ms())

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
            else {Pubkey.from_string(plan.pda): position_account(plan.market, plan.wallet, 0, 0, Worth())}
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

        worth = self._worth(plan.market.protocol, plan.market.token_a, call.now_ms)
        account = position_account(plan.market, plan.wallet, result.tokens_after, result.debt_after, worth)
        return EmulatedEffect(
            token_deltas=result.token_deltas(),
            accounts={Pubkey.from_string(plan.pda): account},
            on_commit=landed,
            logs=[f"Asgard {plan.kind} {plan.pda}"],
        )

    def _worth(self, protocol: Protocol, deposited: Token, at_ms: int) -> Worth:
        """What a share of a deposit of this token and of a debt in USDC is worth at a moment."""
        lend = self._book.index(protocol, deposited.symbol, at_ms).lend
        return Worth(lend.exp(), self._book.index(protocol, "USDC", at_ms).borrow.exp())

    def _bank(self, protocol: Protocol, token: Token) -> BankState:
        now_ms = self._chain.world.now_ms()
        is_usdc = token.mint == USDC_MINT
        price = Decimal(1) if is_usdc else self._book.oracle_price(Market(protocol, token), now_ms)
        index = self._book.index(protocol, token.symbol, now_ms)
        available = int(vault_balance(self._chain, protocol, token).scaleb(token.decimals))
        worth = Worth(index.lend.exp(), index.borrow.exp())
        return BankState(worth, available, price, self._chain.blocks.slot("finalized"), now_ms // 1000)


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
