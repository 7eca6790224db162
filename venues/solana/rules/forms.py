"""The three lenders' instructions that an operation may contain: discriminator, length, and who stands where.

Account orders follow the published interfaces of klend, marginfi v2 and Solend. What is not listed is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from solders.pubkey import Pubkey

from venues.solana.anchors import anchor
from venues.solana.rules.common import BUYING, EXITS, KAMINO, MARGINFI, SAVE, SELLING, Operation

ALL = 2**64 - 1
"""The amount that means everything."""


class Slot(Enum):
    """Who must stand in a place of an account list."""

    WALLET = auto()
    POSITION = auto()
    MARKET = auto()
    ASSET_BANK = auto()
    USDC_BANK = auto()
    EITHER_BANK = auto()
    FLASH_BANK = auto()
    OWN_ASSET = auto()
    OWN_USDC = auto()
    ASSET_MINT = auto()
    USDC_MINT = auto()


class Does(Enum):
    """What a form does to the sums of a build."""

    NOTHING = auto()
    INIT = auto()
    DEPOSIT = auto()
    WITHDRAW = auto()
    BORROW = auto()
    REPAY = auto()
    FLASH_BORROW = auto()
    FLASH_REPAY = auto()


@dataclass(frozen=True, slots=True)
class Form:
    """One allowed instruction: for which operations, how long its data are, who stands where, and what it does."""

    name: str
    ops: frozenset[Operation]
    lengths: frozenset[int]
    slots: Mapping[int, Slot]
    does: Does = Does.NOTHING


Forms: TypeAlias = dict[bytes, Form]
W, P, M = Slot.WALLET, Slot.POSITION, Slot.MARKET
ANY = BUYING | EXITS
FLASH = BUYING | SELLING
OPEN = frozenset({Operation.OPEN})


def _anchor_forms(*forms: tuple[str, frozenset[Operation], tuple[int, ...], dict[int, Slot], Does]) -> Forms:
    return {
        anchor(name): Form(name, ops, frozenset(8 + one for one in lengths), slots, does)
        for name, ops, lengths, slots, does in forms
    }


# The second versions take the same accounts first and those of a farm behind them (klend-sdk, generated clients).
_KAMINO_MOVES: tuple[tuple[str, frozenset[Operation], tuple[int, ...], dict[int, Slot], Does], ...] = (
    (
        "deposit_reserve_liquidity_and_obligation_collateral",
        BUYING,
        (8,),
        {0: W, 1: P, 2: M, 4: Slot.ASSET_BANK, 5: Slot.ASSET_MINT, 9: Slot.OWN_ASSET},
        Does.DEPOSIT,
    ),
    (
        "withdraw_obligation_collateral_and_redeem_reserve_collateral",
        SELLING,
        (8,),
        {0: W, 1: P, 2: M, 4: Slot.ASSET_BANK, 5: Slot.ASSET_MINT, 9: Slot.OWN_ASSET},
        Does.WITHDRAW,
    ),
    (
        "borrow_obligation_liquidity",
        BUYING,
        (8,),
        {0: W, 1: P, 2: M, 4: Slot.USDC_BANK, 5: Slot.USDC_MINT, 8: Slot.OWN_USDC},
        Does.BORROW,
    ),
    (
        "repay_obligation_liquidity",
        EXITS,
        (8,),
        {0: W, 1: P, 2: M, 3: Slot.USDC_BANK, 4: Slot.USDC_MINT, 6: Slot.OWN_USDC},
        Does.REPAY,
    ),
)
_KAMINO = _anchor_forms(
    *_KAMINO_MOVES,
    *((f"{name}_v2", ops, lengths, slots, does) for name, ops, lengths, slots, does in _KAMINO_MOVES),
    ("init_user_metadata", OPEN, (32,), {0: W, 1: W}, Does.NOTHING),
    (
        "init_obligation_farms_for_reserve",
        BUYING,
        (1,),
        {0: W, 1: W, 2: P, 4: Slot.EITHER_BANK, 7: M},
        Does.NOTHING,
    ),
    (
        "refresh_obligation_farms_for_reserve",
        ANY,
        (1,),
        {0: W, 1: P, 3: Slot.EITHER_BANK, 6: M},
        Does.NOTHING,
    ),
    (
        "init_obligation",
        OPEN,
        (2,),
        {0: W, 1: W, 2: P, 3: M, 4: Slot.ASSET_MINT, 5: Slot.USDC_MINT},
        Does.INIT,
    ),
    ("refresh_reserve", ANY, (0,), {0: Slot.EITHER_BANK, 1: M}, Does.NOTHING),
    ("refresh_obligation", ANY, (0,), {0: M, 1: P}, Does.NOTHING),
    (
        "flash_borrow_reserve_liquidity",
        FLASH,
        (8,),
        {0: W, 3: Slot.FLASH_BANK, 4: Slot.USDC_MINT, 6: Slot.OWN_USDC},
        Does.FLASH_BORROW,
    ),
    (
        "flash_repay_reserve_liquidity",
        FLASH,
        (9,),
        {0: W, 3: Slot.FLASH_BANK, 4: Slot.USDC_MINT, 6: Slot.OWN_USDC},
        Does.FLASH_REPAY,
    ),
)
_BANK = {0: M, 1: P, 2: W}
_MARGINFI = _anchor_forms(
    ("marginfi_account_initialize", OPEN, (0,), {0: M, 1: P, 2: W, 3: W}, Does.INIT),
    ("marginfi_account_initialize_pda", OPEN, (3, 5), {0: M, 1: P, 2: W, 3: W}, Does.INIT),
    ("lending_account_start_flashloan", FLASH, (8,), {0: P, 1: W}, Does.NOTHING),
    ("lending_account_end_flashloan", FLASH, (0,), {0: P, 1: W}, Does.NOTHING),
    (
        "lending_account_deposit",
        BUYING,
        (9, 10),
        _BANK | {3: Slot.ASSET_BANK, 4: Slot.OWN_ASSET},
        Does.DEPOSIT,
    ),
    (
        "lending_account_withdraw",
        SELLING,
        (9, 10),
        _BANK | {3: Slot.ASSET_BANK, 4: Slot.OWN_ASSET},
        Does.WITHDRAW,
    ),
    ("lending_account_borrow", BUYING, (8,), _BANK | {3: Slot.USDC_BANK, 4: Slot.OWN_USDC}, Does.BORROW),
    ("lending_account_repay", EXITS, (9, 10), _BANK | {3: Slot.USDC_BANK, 4: Slot.OWN_USDC}, Does.REPAY),
)
_SAVE: Forms = {
    bytes([tag]): Form(name, ops, frozenset({1 + length}), slots, does)
    for tag, name, ops, length, slots, does in (
        (3, "RefreshReserve", ANY, 0, {0: Slot.EITHER_BANK}, Does.NOTHING),
        (6, "InitObligation", OPEN, 0, {0: P, 1: M, 2: W}, Does.INIT),
        (7, "RefreshObligation", ANY, 0, {0: P}, Does.NOTHING),
        (
            10,
            "BorrowObligationLiquidity",
            BUYING,
            8,
            {1: Slot.OWN_USDC, 2: Slot.USDC_BANK, 4: P, 5: M, 7: W},
            Does.BORROW,
        ),
        (
            11,
            "RepayObligationLiquidity",
            EXITS,
            8,
            {0: Slot.OWN_USDC, 2: Slot.USDC_BANK, 3: P, 4: M, 5: W},
            Does.REPAY,
        ),
        (
            14,
            "DepositReserveLiquidityAndObligationCollateral",
            BUYING,
            8,
            {0: Slot.OWN_ASSET, 2: Slot.ASSET_BANK, 5: M, 8: P, 9: W, 11: W},
            Does.DEPOSIT,
        ),
        (
            15,
            "WithdrawObligationCollateralAndRedeemReserveCollateral",
            SELLING,
            8,
            {2: Slot.ASSET_BANK, 3: P, 4: M, 6: Slot.OWN_ASSET, 9: W, 10: W},
            Does.WITHDRAW,
        ),
        (
            19,
            "FlashBorrowReserveLiquidity",
            FLASH,
            8,
            {1: Slot.OWN_USDC, 2: Slot.FLASH_BANK},
            Does.FLASH_BORROW,
        ),
        (
            20,
            "FlashRepayReserveLiquidity",
            FLASH,
            9,
            {0: Slot.OWN_USDC, 4: Slot.FLASH_BANK, 6: W},
            Does.FLASH_REPAY,
        ),
    )
}
FORMS: dict[Pubkey, Forms] = {KAMINO: _KAMINO, MARGINFI: _MARGINFI, SAVE: _SAVE}
