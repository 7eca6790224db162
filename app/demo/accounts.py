"""`make demo-accounts`: managed accounts from set-up to the share, on local venues; seven points, each with its proof."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from eth_account import Account
from rich.console import Console

from app.accounts import actions, operating
from app.accounts.limits import Asked
from app.demo.accounts_venues import MILLION, Demo, installed, venues, wallet_sends
from evenkeel.clock import WorldClock
from evenkeel.errors import OperatorError, VenueRefused
from state.accounts.models import TradeState
from state.store import Store
from strategy.accounts.share import ChargeState
from tasks.accounts.desk import AccountsDesk, accounts_desk
from tasks.accounts.trading import open_trade
from twins.evm.node import NoNode
from venues.evm.codec import Function
from venues.ostium.contracts import NO_BUILDER, OPEN, PRICE_PLACES, SET_DELEGATE, units

SOL, SOL_USD = 9, "SOL/USD"
APPROVE = Function("approve", ("address", "uint256"), ("bool",))


def run_demo(out_dir: Path, console: Console) -> dict[str, Any]:
    """Run the seven points; return what `summary.json` holds. Raises OperatorError where no EVM node can be had."""
    began = time.monotonic()
    out_dir.mkdir(parents=True, exist_ok=True)
    ledger = out_dir / "accounts.db"
    for old in out_dir.glob("accounts.db*"):
        old.unlink()
    try:
        with venues(out_dir.parent) as (ostium, loop, hyperliquid_url):
            demo = installed(ostium, loop, hyperliquid_url, f"sqlite:///{ledger.resolve()}")
            before = {one["address"].lower(): demo.usdc(one["address"]) for one in demo.users}
            asyncio.run(_seven_points(demo, console))
            residual = _residual(demo, before)
    except NoNode as missing:
        raise OperatorError(f"the demo of managed accounts needs an EVM node: {missing}") from None
    summary = {
        "points": [vars(one) for one in demo.points],
        "residual_usd": str(residual),
        "wall_seconds": round(time.monotonic() - began, 1),
    }
    (out_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print(f"Books and wallets: residual {residual} USD.", markup=False)
    console.print(
        f"summary: {out_dir / 'summary.json'}   wall time {summary['wall_seconds']} s", markup=False
    )
    return summary


async def _seven_points(demo: Demo, console: Console) -> None:
    demo.move("150")
    deployments = await _set_up(demo, console)
    await _small_deployment(demo, deployments[0], console)
    await _open(demo, deployments[0], console)
    await _close(demo, console)
    await _share(demo, console)
    await _discovery_and_trailing(demo, deployments[0], console)
    await _load(demo, deployments[2:], console)


async def _set_up(demo: Demo, console: Console) -> list[str]:
    """Every user but the second names the agent and signs two approvals; before that nothing is active."""
    agent = await actions.add_agent(demo.settings, "trend", None)
    found, missing, most = [], [], Asked(Decimal(100), Decimal(5), 200)
    for user in demo.users:
        body = await actions.deploy(demo.settings, user["address"], "trend", most)
        missing += body["missing"]
        found.append(body["deployment_id"])
    at = demo.ostium.twin.venue.at
    collector = Account.from_key(os.environ["EVENKEEL_COLLECTOR_KEY"]).address.lower()
    for user in demo.users:
        await wallet_sends(
            demo,
            user,
            (at["trading"], SET_DELEGATE.call(agent["key_address"])),
            (at["usdc"], APPROVE.call(at["storage"], 1_000 * MILLION)),
            (at["usdc"], APPROVE.call(collector, 20 * MILLION)),
        )
    states = [(await actions.check(demo.settings, one))["state"] for one in found]
    ok = len(missing) == 3 * len(found) and set(states) == {"ACTIVE"}
    proof = f"{len(missing)} things were missing, {len(found)} users signed three calls each, all are active"
    demo.check("set-up", ok, proof, console)
    return found


async def _small_deployment(demo: Demo, deployment: str, console: Console) -> None:
    """What exceeds the user's limits is not signed, and takes no number."""
    why = "nothing refused it"
    try:
        await actions.open_trade(
            demo.settings, deployment, SOL_USD, "long", Decimal(101), Decimal(3), 100, "beyond"
        )
    except VenueRefused as refused:
        why = str(refused)
    agent = Account.from_key(os.environ["EVENKEEL_OSTIUM_KEY"]).address
    sent = int(
        demo.on_twins(lambda: demo.ostium.twin.venue.node.rpc("eth_getTransactionCount", agent, "latest")), 16
    )
    ok = "allowed is 100" in why and sent == 0
    demo.check(
        "small deployment",
        ok,
        f"101 USDC of 100: {why}; transactions of the agent: {sent}",
        console,
    )


async def _open(demo: Demo, deployment: str, console: Console) -> None:
    opened = await actions.open_trade(
        demo.settings, deployment, SOL_USD, "long", Decimal(80), Decimal(3), 100, "first"
    )
    user = demo.users[0]["address"]
    on_chain = demo.on_twins(lambda: demo.ostium.twin.venue.read("storage", "getOpenTrade", user, SOL, 0))
    same = Decimal(on_chain["openPrice"]).scaleb(-PRICE_PLACES) == Decimal(opened["open_price_usd"] or 0)
    ok = opened["state"] == "OPEN" and same
    proof = (
        f"trade {opened['trade_id']} of 80 USDC at {opened['open_price_usd']}, as the chain's storage has it"
    )
    demo.check("open", ok, proof, console)


async def _close(demo: Demo, console: Console) -> None:
    user = demo.users[0]["address"]
    before = demo.usdc(user)
    demo.move("156")
    closed = await actions.close_trade(demo.settings, "first", Decimal(1), 100)
    came = demo.usdc(user) - before
    result = Decimal(closed["result_usdc"])
    ok = closed["state"] == "CLOSED" and came - 80 == result > 0
    demo.check("close with PnL", ok, f"{came} USDC came back for 80: the books say {result:+}", console)


async def _share(demo: Demo, console: Console) -> None:
    paid = await actions.collect(demo.settings)
    [charge] = [one for one in paid["charges"] if one["state"] == ChargeState.COLLECTED]
    there = demo.usdc(demo.wallet)
    again = await actions.collect(demo.settings)
    ok = there == Decimal(charge["usdc"]) and paid["paid"] == 1 and again["paid"] == 0
    proof = f"{charge['usdc']} USDC of {charge['base_usdc']} in {charge['transaction']}; the platform holds {there}"
    demo.check("profit share", ok, proof, console)


async def _discovery_and_trailing(demo: Demo, deployment: str, console: Console) -> None:
    """A user opens a trade by hand and is found; a stop trails a gain at the venue, where the keeper closes by it."""
    user = demo.users[1]
    trade = (40 * MILLION, units(Decimal(156), PRICE_PLACES), 0, 0, user["address"], 200, SOL, 0, True, False)
    at = demo.ostium.twin.venue.at
    await wallet_sends(demo, user, (at["trading"], OPEN.call(trade, NO_BUILDER, 0, 100)))
    await actions.open_trade(
        demo.settings, deployment, SOL_USD, "long", Decimal(60), Decimal(5), 100, "trailed"
    )
    found = await _until(demo, lambda rows: any(one["name"].startswith("421614-") for one in rows))
    demo.move("162")
    stopped = await _until(demo, lambda rows: any(_stop_of(one, "trailed") > 160 for one in rows))
    demo.move("159")
    over = await _until(demo, lambda rows: all(one["name"] != "trailed" for one in rows))
    with _ledger(demo) as store:
        row, [last] = store.accounts.trade("trailed"), store.accounts.settlements(trade="trailed")[-1:]
    ok = found and stopped and over and last.why == "stop" and row.result_usdc > 0
    proof = (
        f"a trade that user 2 opened himself was found by its logs; the stop of another trailed to {row.stop} at the "
        f"venue, whose keeper closed by it at {last.price}: {row.result_usdc:+} USDC"
    )
    demo.check("discovery and trailing", ok, proof, console)


async def _load(demo: Demo, deployments: list[str], console: Console) -> None:
    """Trades of several users asked for at once on one key: each lands once, no number is left out."""
    names = [f"load-{n}" for n in range(5 * len(deployments))]
    with _ledger(demo) as store:
        async with accounts_desk(demo.settings, store.clock, store) as desk:
            await desk.second.refresh()
            quote = (await desk.prices.now())[SOL]
            order = {
                "pair": SOL,
                "is_long": True,
                "collateral_usdc": "20",
                "leverage": "2",
                "slippage_bps": 100,
            }
            began = time.monotonic()
            reading = asyncio.create_task(_read_on(desk))
            await asyncio.gather(
                *(
                    open_trade(
                        desk.desk,
                        deployments[n % len(deployments)],
                        order | {"price": str(quote.ask)},
                        name=name,
                    )
                    for n, name in enumerate(names)
                )
            )
            took = time.monotonic() - began
            reading.cancel()
            for _ in range(40):
                await desk.tick()
                if not store.unfinished_intents("accounts"):
                    break
                await desk.desk.clock.sleep(3)
            landed = [store.accounts.trade(name).state for name in names]
            [lane] = {one.lane for one in store.lanes.given(_lane(demo))} or {""}
            numbers = [one.number for one in store.lanes.given(lane)]
    on_chain = demo.on_twins(lambda: len(demo.ostium.twin.book.open))
    ok = (
        all(one is TradeState.OPEN for one in landed)
        and numbers == list(range(len(numbers)))
        and on_chain == len(names) + 1
    )
    proof = (
        f"{len(names)} opens at once on one key in {took:.1f} s: {on_chain - 1} trades on the chain, numbers 0 to "
        f"{numbers[-1]} without a gap"
    )
    demo.check("load", ok, proof, console)


async def _read_on(desk: AccountsDesk) -> None:
    """The second source's prices, as a watch keeps them."""
    while True:
        await desk.second.refresh()
        await desk.desk.clock.sleep(10)


def _lane(demo: Demo) -> str:
    agent = Account.from_key(os.environ["EVENKEEL_OSTIUM_KEY"]).address.lower()
    return f"evm:{demo.ostium.chain.chain_id}:{agent}"


def _stop_of(row: dict[str, Any], name: str) -> Decimal:
    return Decimal(row["stop_usd"] or 0) if row["name"] == name else Decimal(0)


async def _until(demo: Demo, holds: Callable[[list[dict[str, Any]]], bool]) -> bool:
    """Let the watch tick until the list of trades says so; False after a while."""
    for _ in range(25):
        await operating.watch(demo.settings, once=True)
        if holds(actions.listed(demo.settings)["trades"]):
            return True
        await WorldClock(demo.ostium.urls["control"]).sleep(6)
    return False


@contextmanager
def _ledger(demo: Demo) -> Iterator[Store]:
    store = Store.open(demo.settings.database.url, WorldClock(demo.ostium.urls["control"]))
    try:
        yield store
    finally:
        store.close()


def _residual(demo: Demo, before: dict[str, Decimal]) -> Decimal:
    """What the wallets' changes are more than the books say: results, less what lies in open trades and was pulled."""
    with _ledger(demo) as store:
        trades = store.accounts.trades()
        charges = store.accounts.charges(ChargeState.COLLECTED)
    changed = sum((demo.usdc(address) - was for address, was in before.items()), Decimal(0))
    result = sum((one.result_usdc for one in trades), Decimal(0))
    lies = sum((one.paid_usdc for one in trades if one.state is TradeState.OPEN), Decimal(0))
    pulled = sum((one.usdc for one in charges), Decimal(0))
    return changed - (result - lies - pulled)


def main() -> int:
    """Run it by itself: `python -m app.demo.accounts [FOLDER]`. Return 1 where a point does not hold, 2 where it cannot run."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/demo-accounts")
    try:
        summary = run_demo(folder, Console())
    except OperatorError as missing:
        sys.stderr.write(f"{missing}\n")
        return 2
    holds = all(one["ok"] for one in summary["points"]) and not Decimal(summary["residual_usd"])
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
