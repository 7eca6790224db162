"""What a run did to a position, as a person reads it beside the run in the Prefect UI: fills, costs, distances, and why."""

from __future__ import annotations

import logging
from decimal import Decimal

from evenkeel.clock import as_datetime
from evenkeel.legs import CARRY, LegSide
from evenkeel.units import LAMPORTS_PER_SOL
from state.carry.models import LendingRow, Position
from state.ledger_models import FillRow
from state.store import Store
from strategy.carry.limits import PROTOCOL_NAMES
from tasks.artifacts import show_markdown
from tasks.step import in_flow_run

log = logging.getLogger("evenkeel.artifacts")


async def show_traded(store: Store, what: str, position_id: str, since_ms: int, why: tuple[str, ...]) -> None:
    """Leave it beside the run, where one is there. `since_ms`: when the run began. What cannot be read is logged: a trade is
    over by now, and nothing that reports on it may fail it.
    """
    if not in_flow_run():
        return
    try:
        position = store.carry.position(position_id)
        # By our own clock: a venue's and a block's may be seconds behind it.
        ours = {one.intent_id for one in store.intents_of(CARRY, position_id) if one.updated_ms >= since_ms}
        fills = [one for one in store.fills_of(CARRY, position_id) if one.intent_id in ours]
        changes = [one for one in store.carry.lending_changes(position_id) if one.intent_id in ours]
        text = as_markdown(what, position, fills, changes, why)
    except Exception as fault:
        # A bug too: the orders are done, and their run must not fail for a picture of them.
        log.warning("what was done to %s cannot be shown: %r", position_id, fault)
        return
    await show_markdown(f"{what}-{position_id.lower()}", text, f"{what} {position_id}: {position.status}")


def as_markdown(
    what: str, position: Position, fills: list[FillRow], changes: list[LendingRow], why: tuple[str, ...]
) -> str:
    """Return the text: how it ended and why, each fill in order of time, what it cost, how far both legs are from
    liquidation since the entry.
    """
    lender = (
        "" if position.protocol is None else f" on {PROTOCOL_NAMES.get(position.protocol, position.protocol)}"
    )
    lines = [
        f"# {what} {position.position_id}: {position.status}",
        "",
        f"{position.asset}{lender} at {position.leverage.normalize():f}x against a short of the perpetual.",
        "",
        *(f"- {reason}" for reason in why if reason),
        "",
    ]
    swapped = {one.intent_id for one in changes}  # the row of the lending position has it, with its fee
    rows = sorted([*(_fill(one) for one in fills if one.intent_id not in swapped), *map(_change, changes)])
    if rows:
        lines += [
            "| time (UTC) | leg | what | quantity | price | fee USD |",
            "| --- | --- | --- | ---: | ---: | ---: |",
        ]
        lines += [f"| {as_datetime(at_ms):%Y-%m-%d %H:%M:%S} | {text}" for at_ms, text in rows]
    else:
        lines.append("Nothing was filled.")
    fees = sum((one.fee_usd for one in fills), Decimal(0))
    fees += sum((one.protocol_fee_usd for one in changes), Decimal(0))
    lamports = sum(one.gas_lamports + one.tip_lamports for one in changes)
    lines += ["", f"Fees {fees:,.2f} USD; gas and tips {Decimal(lamports) / LAMPORTS_PER_SOL:.6f} SOL."]
    distances = position.facts.get("entry_distance") or {}
    said = [
        f"{side} {Decimal(str(distances[side])):.1%}" for side in LegSide if distances.get(side) is not None
    ]
    if said:
        lines.append(f"Distance to liquidation at the entry: {', '.join(said)}.")
    return "\n".join([*lines, ""])


def _fill(one: FillRow) -> tuple[int, str]:
    return (
        one.time_ms,
        f"{one.part} | {one.side} {one.asset} | {one.qty:f} | {one.price_usd:,.4f} | {one.fee_usd:,.2f} |",
    )


def _change(one: LendingRow) -> tuple[int, str]:
    price = f"{one.swap_usdc_qty / one.swap_token_qty:,.4f}" if one.swap_token_qty else ""
    bought = one.tokens_after >= one.tokens_before
    what = f"{one.kind}: {'buy' if bought else 'sell'}" if one.swap_token_qty else f"{one.kind}: no swap"
    return one.at_ms, f"long | {what} | {abs(one.swap_token_qty):f} | {price} | {one.protocol_fee_usd:,.2f} |"
