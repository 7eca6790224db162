"""The three lenders, judged: the instruction belongs to the operation, and the accounts are ours and those of the order.

What is not bound here (vaults, oracles, market authorities) the lender's own constraints bind to the market and reserve.
"""

from __future__ import annotations

from solders.pubkey import Pubkey

from venues.solana.answers import AccountInfo
from venues.solana.rules.common import KAMINO, MARGINFI, SAVE, USDC_MINT, Draft, Flash, Operation, Step
from venues.solana.rules.forms import ALL, FORMS, Does, Form, Slot
from venues.solana.rules.holdings import holdings_of
from venues.solana.rules.token import own_mint
from venues.solana.view import Violation

_FLASHES = (Does.FLASH_BORROW, Does.FLASH_REPAY)
AUTHORITY_AT = {KAMINO: 64, MARGINFI: 40, SAVE: 42}
"""Where a position account states its owner (klend Obligation, MarginfiAccount, Solend Obligation)."""
MARKET_AT = {KAMINO: 32, MARGINFI: 8, SAVE: 10}


def check_lender(step: Step, draft: Draft) -> None:
    """Check one instruction of a lender against the table of its program. Raises `Violation`."""
    expectation = draft.expectation
    head = step.data[:1] if step.program == SAVE else step.data[:8]
    form = FORMS[step.program].get(head)
    if form is None:
        raise Violation(
            "discriminator",
            f"instruction {step.index}: {head.hex() or 'nothing'} of {step.program} is not allowed",
        )
    if expectation.op not in form.ops:
        raise Violation(
            "operation", f"instruction {step.index} is {form.name}, which is no part of {expectation.op}"
        )
    if step.program != expectation.lender and form.does not in _FLASHES:
        raise Violation(
            "lender", f"instruction {step.index} is {form.name} of {step.program}, not of the lender asked"
        )
    if len(step.data) not in form.lengths:
        raise Violation(
            "data", f"{form.name} with {len(step.data)} bytes of data, expected {sorted(form.lengths)}"
        )
    for slot, who in form.slots.items():
        _bind(step, draft, form, slot, who)
    _account_for(step, draft, form)


def _bind(step: Step, draft: Draft, form: Form, slot: int, who: Slot) -> None:
    expectation, found = draft.expectation, step.account(slot)
    where = f"account {slot} of {form.name}"
    if who is Slot.WALLET and found != draft.wallet:
        raise Violation("authority", f"{where} is {found}, not our wallet")
    if who is Slot.POSITION:
        _bind_position(draft, found, where, makes=form.does is Does.INIT)
    elif who is Slot.MARKET and expectation.market is not None and found != expectation.market:
        raise Violation("market", f"{where} is {found}, the market asked for is {expectation.market}")
    elif who in (Slot.ASSET_BANK, Slot.USDC_BANK, Slot.EITHER_BANK, Slot.FLASH_BANK):
        if found not in _banks(step, draft, who):
            raise Violation("bank", f"{where} is {found}, which is not the bank asked for")
        if draft.rules.banks and found not in draft.rules.banks:
            raise Violation("bank", f"{where} is {found}, which is not among the pinned banks")
        info = draft.view.account(found)
        if info is not None and info.owner != str(step.program):
            raise Violation("bank", f"{where} is {found}, which belongs to {info.owner}")
    elif who in (Slot.OWN_ASSET, Slot.OWN_USDC):
        wanted = expectation.asset_mint if who is Slot.OWN_ASSET else USDC_MINT
        if (mint := own_mint(draft, found)) != wanted:
            raise Violation("mint", f"{where} holds {mint}, expected {wanted}")
    elif who in (Slot.ASSET_MINT, Slot.USDC_MINT):
        wanted = expectation.asset_mint if who is Slot.ASSET_MINT else USDC_MINT
        if found != wanted:
            raise Violation("mint", f"{where} is {found}, expected {wanted}")


def _banks(step: Step, draft: Draft, who: Slot) -> frozenset[Pubkey]:
    expectation = draft.expectation
    if who is Slot.FLASH_BANK:
        own = expectation.usdc_bank if step.program == expectation.lender else None
        other = expectation.flash_banks.get(step.program)
        return frozenset(one for one in (own, other) if one is not None)
    either = {
        Slot.ASSET_BANK: {expectation.asset_bank},
        Slot.USDC_BANK: {expectation.usdc_bank},
        Slot.EITHER_BANK: {expectation.asset_bank, expectation.usdc_bank},
    }
    return frozenset(either[who])


def _bind_position(draft: Draft, found: Pubkey, where: str, *, makes: bool) -> None:
    """One position for the whole build: the one asked for, or for an opening a new or empty one of our wallet."""
    expectation = draft.expectation
    if expectation.position is not None and found != expectation.position:
        raise Violation("position", f"{where} is {found}, the position asked for is {expectation.position}")
    if draft.position is not None and found != draft.position:
        raise Violation(
            "position", f"{where} is {found}, another instruction names position {draft.position}"
        )
    if draft.position is None:
        info = draft.view.account(found)
        if info is not None:
            check_position(expectation.lender, draft.wallet, expectation.market, found, info)
            held = holdings_of(expectation.lender, info)
            if expectation.op is Operation.OPEN and (held is None or not held.is_empty):
                raise Violation("position", f"{where} is {found}, a position that holds something already")
            draft.position_made = True
        draft.position = found
    if makes:
        draft.position_made = True
    elif not draft.position_made:
        raise Violation("position", f"{where} is {found}, which neither exists nor is made by this build")


def check_position(
    lender: Pubkey, wallet: Pubkey, market: Pubkey | None, address: Pubkey, info: AccountInfo
) -> None:
    """Check that a position account belongs to the lender, names our wallet as its owner and the market asked for."""
    if info.owner != str(lender):
        raise Violation("position", f"position {address} belongs to program {info.owner}, not to {lender}")
    at, where = AUTHORITY_AT[lender], MARKET_AT[lender]
    owner = info.data[at : at + 32]
    if owner != bytes(wallet):
        shown = Pubkey.from_bytes(owner) if len(owner) == 32 else "nobody"
        raise Violation("authority", f"position {address} is owned by {shown}, not by our wallet")
    if market is not None and info.data[where : where + 32] != bytes(market):
        raise Violation("market", f"position {address} is in another market than {market}")


def _account_for(step: Step, draft: Draft, form: Form) -> None:
    offset = 1 if step.program == SAVE else 8
    if form.does is Does.DEPOSIT:
        draft.deposited += step.u64(offset)
    elif form.does is Does.WITHDRAW:
        draft.withdrawn += step.u64(offset)
        draft.withdraws_all |= _is_all(step, offset)
    elif form.does is Does.BORROW:
        draft.borrowed += step.u64(offset)
    elif form.does is Does.REPAY:
        draft.repaid += step.u64(offset)
        draft.repays_all |= _is_all(step, offset)
    elif form.does is Does.FLASH_BORROW:
        bank = step.account(3 if step.program == KAMINO else 2)
        draft.flashes.append(Flash(step.program, bank, step.u64(offset), step.index))
    elif form.does is Does.FLASH_REPAY:
        bank = step.account(3 if step.program == KAMINO else 4)
        repaid = Flash(step.program, bank, step.u64(offset), step.data[offset + 8])
        if repaid not in draft.flashes:
            raise Violation(
                "flash-loan", f"instruction {step.index} repays {repaid.amount} that was not borrowed so"
            )
        draft.flashes.remove(repaid)


def _is_all(step: Step, offset: int) -> bool:
    """Everything, however much it is when it lands: a flag of Marginfi's, the largest amount elsewhere."""
    if step.program == MARGINFI:
        return step.data[offset + 8 : offset + 10] == b"\x01\x01"
    return step.u64(offset) == ALL
