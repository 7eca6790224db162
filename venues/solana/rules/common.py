"""What a verdict is asked about: the operation we wanted, the limits that bind it, and the record of what a build does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from solders.pubkey import Pubkey

from venues.solana.routes.table import RouteTable, dated_table
from venues.solana.view import Violation

if TYPE_CHECKING:
    from venues.solana.view import ChainView, Keys


def key(text: str) -> Pubkey:
    return Pubkey.from_string(text)


SYSTEM = key("11111111111111111111111111111111")
COMPUTE_BUDGET = key("ComputeBudget111111111111111111111111111111")
TOKEN = key("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022 = key("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
ATA = key("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
MEMO = key("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
MARGINFI = key("MFv2hWf31Z9kbCa1snEPYctwafyhdvnV7FZnsebVacA")
KAMINO = key("KLend2g3cP87fffoy8q1mQqGKjrxjC8boSyAYavgmjD")
SAVE = key("So1endDq2YkqhipRh3WViPa8hdiSpxWy6z3Z6tMCpAo")
JUPITER = key("JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4")
DFLOW = key("DF1ow4tspfHX9JwWJsAb9epbkA8hmpSEAtxXy1V27QBH")
WHIRLPOOL = key("whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc")
FARMS = key("FarmsPZpWu9i7Kky8tPN37rs2TpmMrAZrC7S7vJa91Hr")
WSOL_MINT = key("So11111111111111111111111111111111111111112")
USDC_MINT = key("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")
LENDERS = frozenset({MARGINFI, KAMINO, SAVE})
ROUTERS = frozenset({JUPITER, DFLOW})
CPI_PROGRAMS = frozenset(
    {SYSTEM, TOKEN, ATA, MEMO, COMPUTE_BUDGET, MARGINFI, KAMINO, SAVE, JUPITER, DFLOW}
) | frozenset(
    key(one)
    for one in (
        str(FARMS),  # Kamino's farms, which its reserves call
        "SPoo1Ku8WFXoNDMHPsrGSTSG1Y47rzgn41SLUNakuHy",  # SPL stake pool
        "SP12tWFxD9oJsVWNavTTBZvMbA6gkAmxtVgxdqvyvhY",  # Sanctum's stake pools
        "SPMBzsVUuoHA4Jm6KunbsotaahvVikZs1JyTW6iJvbn",
        "5ocnV1qiCgaQR8Jb8xWnVbApfaygJ8tNoZfgPwsgx9kx",  # Infinity
    )
)
"""What may be reached by a call from an approved program, besides the exchanges of the route table and of settings."""


class Operation(StrEnum):
    OPEN = "open_long"
    CLOSE = "close_long"
    PARTIAL_CLOSE = "partial_close"
    DELEVERAGE = "deleverage"
    INCREASE_LEVERAGE = "increase_leverage"
    ADD_COLLATERAL = "add_collateral"
    REPAY_DEBT = "repay_debt"
    WITHDRAW = "withdraw"


BUYING = frozenset({Operation.OPEN, Operation.INCREASE_LEVERAGE, Operation.ADD_COLLATERAL})
SELLING = frozenset({Operation.CLOSE, Operation.PARTIAL_CLOSE, Operation.DELEVERAGE})
EXITS = SELLING | {Operation.REPAY_DEBT}
"""Operations that reduce risk: a verdict on them never waits for simulation or for a price."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits from settings. Caps in lamports are sums over a whole build; fractions are of the fair price."""

    fee_cap_lamports: int = 10_000_000
    exit_fee_cap_lamports: int = 20_000_000
    """The same for what reduces risk: a way out must not fail in the fee spike that it is needed in."""
    tip_cap_lamports: int = 1_000_000
    new_account_margin_lamports: int = 1_000_000
    rent_cap_lamports: int = 60_000_000
    router_fee_cap_bps: int = 50
    slippage_cap_bps: int = 1_000
    price_tolerance: Decimal = Decimal("0.03")
    exit_price_tolerance: Decimal = Decimal("0.10")
    """Of an emergency, like the next for an LST; an ordinary way out gets what a way in gets."""
    exit_lst_tolerance: Decimal = Decimal("0.25")
    failed_try_widening: Decimal = Decimal("0.01")
    """By how much each failed try widens the tolerance of an ordinary way out, up to the next."""
    failed_tries_cap: Decimal = Decimal("0.06")
    stale_widening_hourly: Decimal = Decimal("0.12")
    """By how much an hour of the price's age widens the tolerance of a way out. SOL moves by about 1 % in an ordinary hour;
    an honest close in the worst hours that are on record still passes.
    """
    stale_tolerance_cap: Decimal = Decimal("0.50")
    """Most that age can widen it to: a way out may never give away half of what was last known."""
    cpi_programs: frozenset[Pubkey] = frozenset()
    fee_accounts: frozenset[Pubkey] = frozenset()
    """Token accounts that may receive the router's platform fee, within the fee cap; empty = nobody."""
    routes: RouteTable = field(default_factory=dated_table)
    """Exchanges that a route may pass through, and how the routers describe them."""
    banks: frozenset[Pubkey] = frozenset()
    """Reserves and banks that may be used; empty = those that the order names."""
    withdrawal: Pubkey | None = None

    @property
    def reachable(self) -> frozenset[Pubkey]:
        return CPI_PROGRAMS | self.cpi_programs | self.routes.programs.keys()

    @property
    def fee_receivers(self) -> frozenset[Pubkey]:
        return self.fee_accounts | self.routes.fee_accounts.keys()


@dataclass(frozen=True, slots=True)
class Expectation:
    """What we asked for. Amounts are base units; `price_usd` is USDC per whole asset by a source other than the builder.

    `price_age_ms` is how old that price is (only a way out may go by an old one). `emergency` and `failed_tries` are the way
    out's, and widen what it may give away.
    `position` is None for an opening. `max_asset_in` bounds what a sale may sell, `max_borrow` what may be owed more.
    Of a position that stands: `held_asset` and `owed_usdc` now, the share of it that may be withdrawn, the least to be repaid.
    """

    op: Operation
    wallet: Pubkey
    lender: Pubkey
    market: Pubkey | None
    asset_mint: Pubkey
    asset_bank: Pubkey
    usdc_bank: Pubkey
    position: Pubkey | None = None
    asset_decimals: int = 9
    usdc_outlay: int = 0
    max_borrow: int = 0
    max_asset_in: int = 0
    held_asset: int = 0
    owed_usdc: int = 0
    withdraw_share: Decimal = Decimal(1)
    least_repaid: int = 0
    slippage_bps: int = 50
    tip_lamports: int = 0
    wrap_lamports: int = 0
    withdraw_lamports: int = 0
    withdraw_usdc: int = 0
    price_usd: Decimal | None = None
    price_age_ms: int = 0
    emergency: bool = False
    failed_tries: int = 0
    flash_banks: Mapping[Pubkey, Pubkey] = field(default_factory=dict)
    """Other lenders' USDC reserves from which a flash loan may come, by program."""

    @property
    def mints(self) -> frozenset[Pubkey]:
        return frozenset({self.asset_mint, USDC_MINT, WSOL_MINT})

    @property
    def is_exit(self) -> bool:
        return self.op in EXITS

    @property
    def is_sol(self) -> bool:
        return self.asset_mint == WSOL_MINT


@dataclass(frozen=True, slots=True)
class Step:
    """One top-level instruction with its accounts resolved."""

    index: int
    program: Pubkey
    data: bytes
    accounts: tuple[Pubkey, ...]
    keys: Keys

    def account(self, slot: int) -> Pubkey:
        if slot >= len(self.accounts):
            raise Violation("accounts", f"instruction {self.index} has no account {slot}")
        return self.accounts[slot]

    def u64(self, at: int) -> int:
        if len(self.data) < at + 8:
            raise Violation("data", f"instruction {self.index} has {len(self.data)} bytes of data, too few")
        return int.from_bytes(self.data[at : at + 8], "little")


@dataclass(frozen=True, slots=True)
class Swap:
    """A route of a router: what goes in as quoted and at most, and the least that the program lets come out. What goes in is
    None until it is known of a swap that does not say it.
    """

    buys_asset: bool
    amount_in: int | None
    most_in: int | None
    quoted_out: int
    least_out: int

    @property
    def paid(self) -> int:
        return self.amount_in or 0

    @property
    def paid_at_most(self) -> int:
        return self.most_in or 0


@dataclass(frozen=True, slots=True)
class Flash:
    """A flash loan: what was borrowed in which instruction from which reserve."""

    program: Pubkey
    bank: Pubkey
    amount: int
    index: int


@dataclass(slots=True)
class Draft:
    """What a build has been seen to do so far; the amounts are judged when all of it is known."""

    expectation: Expectation
    rules: Rules
    view: ChainView
    wallet: Pubkey
    position: Pubkey | None = None
    position_made: bool = False
    swaps: list[Swap] = field(default_factory=list)
    deposited: int = 0
    withdrawn: int = 0
    withdraws_all: bool = False
    borrowed: int = 0
    repaid: int = 0
    repays_all: bool = False
    fee_lamports: int = 0
    tip_lamports: int = 0
    rent_lamports: int = 0
    wrapped_lamports: int = 0
    sent_lamports: int = 0
    sent_usdc: int = 0
    fee_receivers: set[Pubkey] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    """What of a way out is not understood: the operator hears of it, and its simulation must pass."""
    unknown_programs: set[Pubkey] = field(default_factory=set)
    between: set[Pubkey] = field(default_factory=set)
    """Mints of tokens that a route passes through."""
    # of the transaction at hand
    made: dict[Pubkey, Pubkey] = field(default_factory=dict)
    """Accounts created by System in this transaction, and their owning program."""
    temporary: dict[Pubkey, Pubkey] = field(default_factory=dict)
    """Token accounts initialised for the wallet in this transaction, and their mint."""
    flashes: list[Flash] = field(default_factory=list)
    budget_tags: dict[int, int] = field(default_factory=dict)

    def next_transaction(self) -> None:
        self.made, self.temporary, self.flashes, self.budget_tags = {}, {}, [], {}
