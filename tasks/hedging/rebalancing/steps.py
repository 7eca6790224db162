"""The steps of a rebalance: each by intents of the one machine, or by a reading that proves what others did."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import TypeAlias

from evenkeel.errors import Bug
from evenkeel.types import IntentState, Receipt
from state.hedging.amounts import times
from strategy.hedging.decision import cut
from strategy.hedging.rebalancing import USDC, Kind
from tasks.hedging.rebalancing.step import Ended, Failed, Passed, Result, Step, Wait
from tasks.intents import Done, NotDone, StillUnknown
from venues.alpaca.client import AlpacaClient
from venues.alpaca.conversions import NAME as CONVERSIONS
from venues.alpaca.moves import JOURNAL, MINT, PAY_OUT, JournalOrder, MintOrder, PayOutOrder
from venues.alpaca.moves import NAME as MOVES
from venues.alpaca.transfers import USDC_PAIR
from venues.broker import HedgeOrder
from venues.broker_rules import text_of
from venues.evm.wrapping import APPROVE_KIND, SEND, UNWRAP, WRAP, TokenMoves
from venues.raindex.vaults import DEPOSIT_KIND, WITHDRAW_KIND, VaultMoves

Moves: TypeAlias = TokenMoves | VaultMoves

CONVERT = "convert"
CANCEL_AFTER_MS = 300_000
"""A conversion that is not filled by then is cancelled, and what was filled of it counts."""


async def _journal(step: Step) -> Result:
    way = "out" if step.kind is Kind.JOURNAL else "back"
    what = "USD" if step.scope == USDC else step.rd.named(step.scope)
    order = JournalOrder(what=what, amount=step.amount, way="out" if way == "out" else "back")
    ending = await step.carry(MOVES, JOURNAL, order.model_dump(mode="json"))

    def passed(receipt: Receipt) -> Passed:
        delta = -receipt.done_qty if way == "out" else receipt.done_qty
        moved = {"USD" if step.scope == USDC else step.scope: str(delta)}
        return Passed(receipt.done_qty, receipt.ref, moved)

    return step.result(ending, passed)


async def _mint(step: Step) -> Result:
    rd = step.rd
    order = MintOrder(
        symbol=rd.named(step.scope),
        qty=step.amount,
        wallet=rd.wallet,
        network=rd.settings.network,
        issuer=rd.settings.issuer,
    )
    ending = await step.carry(MOVES, MINT, order.model_dump(mode="json"))
    return step.result(
        ending,
        lambda receipt: Passed(
            receipt.done_qty, receipt.ref, step.own(-receipt.done_qty), dict(receipt.detail)
        ),
    )


async def _arrive(step: Step) -> Result:
    """The tokens count that the chain says came, and not those that were asked for."""
    rd, minted = step.rd, step.done[-1]
    transaction = minted["detail"].get("transaction")
    if not transaction:
        rows = await rd.transfers.tokenizations()
        named = (one.tx_hash for one in rows if one.tokenization_request_id == minted["ref"])
        transaction = next(named, None)
    if not transaction:
        return Wait(f"{minted['ref']} is completed, and the broker names no transaction of it")
    units = await rd.tokens.arrived(rd.made(step.scope), str(transaction).lower())
    if not units:
        return Wait(f"{transaction} is not final on {rd.at.chain}, or brought nothing to {rd.wallet}")
    return Passed(Decimal(units).scaleb(-rd.decimals(step.scope)), str(transaction))


async def _allowed(step: Step, moves: Moves, token: str, units: int) -> Result | None:
    """Let a contract take just so many units; None where it may. What it may take already is taken back first: some tokens do
    not let one approval replace another.
    """
    allowed = await moves.allowed(token)
    for part, wanted in ((1, 0), (2, units)):
        # One that is under way is followed to its end, also where what it allows is there already.
        last = step.intents(part)[-1:]
        is_open = any(not one.state.is_final for one in last)
        if not is_open and (allowed >= units or (not wanted and not allowed)):
            continue
        ending = await step.carry(moves.name, APPROVE_KIND, {"token": token, "units": wanted}, part)
        if not isinstance(ending, Done):
            tried = len(step.intents(part))
            if isinstance(ending, NotDone) and tried >= step.most_tries:
                return Failed(f"the approval: {ending.reason}")
            return Wait(f"the approval: {ending.reason}")
        allowed = wanted
    return None


def _units(step: Step) -> int:
    return int(step.amount.scaleb(step.rd.decimals(step.scope)))


def _is_begun(step: Step) -> bool:
    """Whether the step's own intent may be under way or over: its approval was there then, and may be used up."""
    return any(one.state is not IntentState.FAILED for one in step.intents())


async def _moved(step: Step, moves: Moves, kind: str, token: str) -> Result:
    """What the step has is moved as a whole; what counts is what the receipt says."""
    ending = await step.carry(moves.name, kind, {"token": token, "units": _units(step)})
    return step.result(ending, lambda receipt: Passed(receipt.done_qty, receipt.ref))


async def _given(step: Step, moves: Moves, kind: str) -> Result:
    """The same to a contract that takes it, and needs an approval for that."""
    token = step.rd.token(step.scope)
    if not _is_begun(step) and (stop := await _allowed(step, moves, token, _units(step))) is not None:
        return stop
    return await _moved(step, moves, kind, token)


async def _wrap(step: Step) -> Result:
    return await _given(step, step.rd.tokens, WRAP)


async def _deposit(step: Step) -> Result:
    return await _given(step, step.rd.vaults, DEPOSIT_KIND)


async def _withdraw(step: Step) -> Result:
    return await _moved(step, step.rd.vaults, WITHDRAW_KIND, step.rd.token(step.scope))


async def _unwrap(step: Step) -> Result:
    return await _moved(step, step.rd.tokens, UNWRAP, step.rd.token(step.scope))


async def _send(step: Step) -> Result:
    return await _moved(step, step.rd.tokens, SEND, step.rd.made(step.scope))


async def _redeemed(step: Step) -> Result:
    """The broker's row of our transaction says how many shares came."""
    sent = step.done[-1]
    rows = await step.rd.transfers.tokenizations()
    mine = [
        one
        for one in rows
        if one.type == "redeem" and (one.tx_hash or "").lower() == str(sent["ref"]).lower()
    ]
    if len(mine) != 1:
        return Wait(f"the broker shows {len(mine)} redemptions of {sent['ref']}")
    row = mine[0]
    if row.status.lower() == "rejected":
        return Failed(f"the issuer has {sent['amount']} tokens and rejected {row.tokenization_request_id}")
    if row.status.lower() != "completed" or row.qty is None:
        return Wait(f"{row.tokenization_request_id} is {row.status[:40]}")
    if not 0 < row.qty <= Decimal(sent["amount"]):
        return Wait(f"{row.tokenization_request_id} gave {row.qty} shares for {sent['amount']} tokens")
    return Passed(row.qty, row.tokenization_request_id, step.own(row.qty))


async def _convert(step: Step) -> Result:
    """Dollars into USDC towards the chain, USDC into dollars back. What was filled counts, also of a part."""
    rd, desk = step.rd, step.rd.at.desk
    side = "buy" if step.is_to_chain else "sell"
    amount = step.amount
    if side == "sell" and not _is_begun(step):
        amount = min(amount, cut(await _held_usdc(rd.transfers.client), 6))
        if amount <= 0:
            return Wait("the broker does not show the USDC that came")
    order = HedgeOrder(
        symbol=USDC_PAIR,
        side="buy" if side == "buy" else "sell",
        qty=amount,
        marked_ms=desk.clock.now_ms(),
    )
    ending = await step.carry(CONVERSIONS, CONVERT, order.model_dump(mode="json"))
    if not isinstance(ending, Done | NotDone | StillUnknown):
        await _cancel_late(step)

    def passed(receipt: Receipt) -> Passed:
        usd = times(receipt.done_qty, receipt.avg_price_usd or Decimal(0))
        if side == "buy":
            return Passed(receipt.done_qty, receipt.ref, step.own(-usd, "USD"))
        return Passed(usd, receipt.ref, step.own(usd, "USD"))

    return step.result(ending, passed)


async def _held_usdc(client: AlpacaClient) -> Decimal:
    held = (await client.holdings()).get(USDC_PAIR)
    return max(held.qty, Decimal(0)) if held is not None else Decimal(0)


async def _cancel_late(step: Step) -> None:
    """Ask for the end of a conversion that is open for too long. How much was filled says the order itself, afterwards."""
    desk = step.rd.at.desk
    last = step.intents()[-1]
    if desk.clock.now_ms() - last.created_ms < CANCEL_AFTER_MS:
        return
    attempt = desk.store.live_attempt(last.intent_id)
    client = step.rd.transfers.client
    found = await client.order_by_client_id(str(attempt.key["client_order_id"])) if attempt else None
    if found is not None:
        await client.cancel(found.id)


async def _pay_out(step: Step) -> Result:
    rd = step.rd
    if not _is_begun(step):
        amount = min(step.amount, cut(await _held_usdc(rd.transfers.client), 6))
        if amount <= 0:
            return Wait("the broker does not show the USDC that was bought")
        if amount < rd.settings.least_withdrawal_usdc:
            least = rd.settings.least_withdrawal_usdc
            return Ended(
                f"{text_of(amount)} USDC were converted, below the {least} that are sent at least: they stay at the broker"
            )
    else:
        amount = step.amount
    order = PayOutOrder(usdc=amount, address=rd.wallet)
    ending = await step.carry(MOVES, PAY_OUT, order.model_dump(mode="json"))

    def passed(receipt: Receipt) -> Passed:
        return Passed(receipt.done_qty, receipt.ref, {}, dict(receipt.detail))

    return step.result(ending, passed)


async def _bridge(step: Step) -> Result:
    """A person brings it over and says how much came; until then nothing goes on."""
    rd = step.rd
    to = rd.at.chain if step.is_to_chain else rd.settings.wallet_network
    where = rd.wallet
    if not step.is_to_chain:
        where = f"the broker's wallet {await rd.transfers.wallet(rd.settings.wallet_network)}"
    return Wait(
        f"bring {text_of(step.amount)} USDC to {where} on {to}, then say `evenkeel hedging rebalance bridged "
        f"{step.row.name} AMOUNT`",
        for_person=True,
    )


STEPS: Mapping[Kind, Callable[[Step], Awaitable[Result]]] = {
    Kind.JOURNAL: _journal,
    Kind.JOURNAL_BACK: _journal,
    Kind.MINT: _mint,
    Kind.ARRIVE: _arrive,
    Kind.WRAP: _wrap,
    Kind.DEPOSIT: _deposit,
    Kind.WITHDRAW: _withdraw,
    Kind.UNWRAP: _unwrap,
    Kind.SEND: _send,
    Kind.REDEEMED: _redeemed,
    Kind.CONVERT: _convert,
    Kind.PAY_OUT: _pay_out,
    Kind.BRIDGE: _bridge,
}


def checked_kind(text: str) -> Kind:
    """Return a step of a plan. Raises Bug for one that is none."""
    try:
        return Kind(text)
    except ValueError:
        raise Bug(f"{text!r} is no step of a rebalance") from None
