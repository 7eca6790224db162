"""A thousand users with three trades each on a real node: money, approvals, delegate, trades, and the ledger's rows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any

import httpx

from evenkeel.settings.settings import load_settings
from state.accounts.models import AccountTrade, DeploymentState, Origin, TradeState
from state.store import Store
from tests.chaos.accounts.bed import CHAIN_ID, LIMITS, PRICE, SOL, AccountsBed
from twins.evm.deploying import calldata
from twins.ostium.deployment import GAS, MILLION, interface
from venues.evm.answers import Log
from venues.evm.rpc import EvmRpc
from venues.ostium.contracts import OPEN_ASKED
from venues.ostium.settlement import TOPICS, Settled, Settlement, settlements

TRADES = 3
"""Of each user."""
USDC_EACH, COLLATERAL, STOP = 1_000, 50, 146
IN_ONE = 200
NODE_S = 900.0
"""Seconds that the node may take for what a thousand users do at once."""
WEI = 10**18
RICH = hex(10**20)
NOBODY = "0x" + "00" * 20


@dataclass
class Many:
    """The users of one bed. Calls go to the node itself, many in one request, in the users' own names."""

    bed: AccountsBed
    users: list[str]

    @property
    def at(self) -> dict[str, str]:
        return self.bed.venue.venue.at

    def ask(self, calls: Sequence[tuple[str, list[Any]]]) -> list[Any]:
        """Return what each answers. Raises RuntimeError for the first that is refused."""
        found: list[Any] = []
        with httpx.Client(trust_env=False, timeout=NODE_S) as http:
            for start in range(0, len(calls), IN_ONE):
                some = calls[start : start + IN_ONE]
                body = [
                    {"jsonrpc": "2.0", "id": n, "method": method, "params": params}
                    for n, (method, params) in enumerate(some)
                ]
                rows = sorted(http.post(self.bed.chain.node.url, json=body).json(), key=lambda row: row["id"])
                if refused := [row["error"] for row in rows if "error" in row]:
                    raise RuntimeError(str(refused[0]))
                found += [row["result"] for row in rows]
        return found

    def send(self, calls: Sequence[tuple[str, str, str]]) -> None:
        """Send (sender, contract, bytes) and make blocks of them; each must succeed. A block holds few: the node goes through
        all of a block for the receipt of each.
        """
        for start in range(0, len(calls), IN_ONE):
            self._block(calls[start : start + IN_ONE])

    def _block(self, calls: Sequence[tuple[str, str, str]]) -> None:
        senders = list(dict.fromkeys(sender for sender, _, _ in calls))
        used = self.ask([("eth_getTransactionCount", [one, "latest"]) for one in senders])
        numbers = {one: count(int(number, 16)) for one, number in zip(senders, used, strict=True)}
        sent = [
            (
                "eth_sendTransaction",
                [
                    {
                        "from": sender,
                        "to": to,
                        "data": data,
                        "gas": hex(GAS),
                        "nonce": hex(next(numbers[sender])),
                    }
                ],
            )
            for sender, to, data in calls
        ]
        hashes = self.ask(sent)
        self.ask([("evm_mine", [])])
        [block] = self.ask([("eth_getBlockReceipts", ["latest"])])
        receipts = {one["transactionHash"]: one for one in block}
        if missing := [one for one in hashes if one not in receipts]:
            raise RuntimeError(f"{len(missing)} of {len(calls)} calls are in no block")
        if failed := [receipts[one] for one in hashes if int(receipts[one]["status"], 16) != 1]:
            raise RuntimeError(
                f"{len(failed)} of {len(calls)} calls were reverted, the first to {failed[0]['to']}"
            )

    def set_up(self) -> None:
        """Everybody has money, lets the venue and the collector take it, and names the agent his delegate."""
        keys = self.bed.keys
        owner = self.bed.venue.venue.owner
        self.ask([("anvil_autoImpersonateAccount", [True])])
        self.ask([("anvil_setBalance", [one, RICH]) for one in self.users])
        mint, approve, delegate = "mint(address,uint256)", "approve(address,uint256)", "setDelegate(address)"
        usdc, storage = self.at["usdc"], self.at["storage"]
        agent, collector = (keys[name].address.lower() for name in ("ostium", "collector"))
        self.send([(owner, usdc, _data(mint, one, USDC_EACH * MILLION)) for one in self.users])
        self.send([(one, usdc, _data(approve, storage, USDC_EACH * MILLION)) for one in self.users])
        self.send([(one, usdc, _data(approve, collector, USDC_EACH * MILLION)) for one in self.users])
        self.send([(one, self.at["trading"], _data(delegate, agent)) for one in self.users])

    def open_trades(self) -> None:
        """Each opens his trades with a stop, and the keeper settles them."""
        price, stop = int(PRICE) * WEI, STOP * WEI
        trade = (COLLATERAL * MILLION, price, 0, stop, NOBODY, 300, SOL, 0, True, False)
        data = interface("trading").call("openTrade", trade, (NOBODY, 0), 0, 200)
        for _ in range(TRADES):
            self.send([(one, self.at["trading"], data) for one in self.users])
        self.settle()

    def settle(self, is_open: bool = True) -> int:
        """Let the keeper answer what waits; return how many orders."""
        waiting = self.ask(
            [
                ("eth_call", [{"to": self.at["storage"], "data": self._pending(one)}, "latest"])
                for one in self.users
            ]
        )
        orders = sorted(
            {int(n) for one in waiting for n in interface("storage").answer("getPendingOrderIds", one)}
        )
        price = int(PRICE) * WEI
        self.send(
            [
                (
                    self.bed.venue.venue.keeper,
                    self.at["prices"],
                    interface("prices").call("answer", (order, price, price, price, False)),
                )
                for order in orders
            ]
        )
        return len(orders)

    def _pending(self, user: str) -> str:
        return interface("storage").call("getPendingOrderIds", user)

    def close_some(self, users: Sequence[str]) -> int:
        """These close their first trade by themselves, half of them in one block each; return how many were settled."""
        data = interface("trading").call("closeTradeMarket", SOL, 0, 10_000, int(PRICE) * WEI, 200)
        for one in users:
            self.send([(one, self.at["trading"], data)])
        return self.settle()

    async def book(self) -> None:
        """Store users, deployments and trades as the watch would have, up to the chain's height."""
        rpc = EvmRpc(self.bed.chain.node.url, self.bed.world)  # type: ignore[arg-type]
        store = Store.open(load_settings(self.bed.config).database.url, self.bed.world)  # type: ignore[arg-type]
        try:
            head = await rpc.head()
            logs = await rpc.logs(0, head.number, [self.at["callbacks"]], [list(TOPICS)])
            wanted = set(self.users)
            opened = [
                one for one in self._settled(logs) if one.kind is Settled.OPENED and one.trader in wanted
            ]
            with store.one_transaction():
                for user in self.users:
                    store.accounts.add_user(user)
                    store.accounts.deploy(_deployment(user), user, "trend", LIMITS)
                    store.accounts.move_deployment(_deployment(user), DeploymentState.ACTIVE, "seen on chain")
                for one in opened:
                    store.accounts.add_trade(_row(one, self.bed.world.now_ms()))
                detail = {"marks": [[head.number, head.hash]]}
                store.move_checkpoint(f"accounts:{CHAIN_ID}", self.bed.world.now_ms(), detail)
            if len(opened) != TRADES * len(self.users):
                raise RuntimeError(
                    f"{len(opened)} trades were opened, not {TRADES} of {len(self.users)} users"
                )
        finally:
            store.close()
            await rpc.close()

    def _settled(self, logs: list[Log]) -> list[Settlement]:
        return settlements(logs, self.at["callbacks"], self.at["trading"], self.at["usdc"])

    def orders_asked(self) -> int:
        """How many openings were asked for on the chain."""
        wanted = {"address": [self.at["trading"]], "topics": [[OPEN_ASKED.topic]], "fromBlock": "0x0"}
        return len(self.ask([("eth_getLogs", [wanted])])[0])


def users_of(many: int) -> list[str]:
    """Return that many addresses."""
    return ["0x" + f"{0xACC0_0000 + n:040x}" for n in range(many)]


async def many_accounts(bed: AccountsBed, size: int) -> Many:
    """Make them on this bed."""
    bed.chain._http.timeout = httpx.Timeout(NODE_S)
    many = Many(bed, users_of(size))
    many.set_up()
    many.open_trades()
    await many.book()
    await bed.later(5)
    return many


def _deployment(user: str) -> str:
    return f"d-{user[-8:]}"


def _row(one: Settlement, now_ms: int) -> AccountTrade:
    assert one.trade is not None and one.asset_qty is not None
    return AccountTrade(
        name=f"t-{one.trade_id}",
        chain=str(CHAIN_ID),
        venue="ostium",
        account=one.trade.trader,
        deployment_id=_deployment(one.trade.trader),
        origin=Origin.DESK,
        state=TradeState.OPEN,
        trade_id=str(one.trade_id),
        pair=SOL,
        place=one.trade.index,
        is_long=True,
        leverage=one.trade.leverage,
        collateral_usdc=one.trade.collateral,
        paid_usdc=Decimal(COLLATERAL),
        asset_qty=one.asset_qty,
        open_price=one.price,
        best_price=one.price,
        stop=Decimal(STOP),
        stop_by="desk",
        opened_ms=now_ms,
        created_ms=now_ms,
        updated_ms=now_ms,
    )


def _data(signature: str, *values: Any) -> str:
    return "0x" + calldata(signature, *values).hex()
