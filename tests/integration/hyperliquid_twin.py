"""A twin on a standing world and wallets that sign for it, without a network in between."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from hyperliquid.utils import signing as sdk

from tests.worlds import FlatSeries, flat_world
from twins.faults import Fault, FaultPlan
from twins.hyperliquid import HyperliquidTwin
from twins.world import World

SOL = 5
IOC = {"limit": {"tif": "Ioc"}}
GTC = {"limit": {"tif": "Gtc"}}
ALO = {"limit": {"tif": "Alo"}}


def wallet(seed: int) -> LocalAccount:
    return Account.from_key("0x" + f"{seed:064x}")


class Desk:
    """A funded trader on a fresh twin."""

    def __init__(self, usdc: str = "10000", **changes: float) -> None:
        self.world: World = flat_world(**changes)
        assert isinstance(self.world.series, FlatSeries)
        self.series: FlatSeries = self.world.series
        self.faults = FaultPlan()
        self.twin = HyperliquidTwin(self.world, self.faults)
        self.wallet = wallet(1001)
        self.address: str = self.wallet.address.lower()
        self.twin.control("fund", {"address": self.address, "usdc": usdc})
        self._nonces = itertools.count(self.world.now_ms())

    def fault(self, kind: str, call: str = ".*", times: int = 1, **args: Any) -> None:
        self.faults.add(Fault("hyperliquid", kind, call, times=times, args=args))

    def body(
        self, action: dict[str, Any], signer: LocalAccount | None = None, **extra: Any
    ) -> dict[str, Any]:
        nonce = extra.pop("nonce", None) or next(self._nonces)
        expires = extra.get("expiresAfter")
        signature = sdk.sign_l1_action(signer or self.wallet, action, None, nonce, expires, False)
        return {"action": action, "nonce": nonce, "signature": signature, "vaultAddress": None, **extra}

    def act(self, action: dict[str, Any], signer: LocalAccount | None = None, **extra: Any) -> dict[str, Any]:
        self.twin.catch_up()
        return self.twin.exchange.handle(self.body(action, signer, **extra))

    def order(
        self,
        is_buy: bool,
        size: str,
        px: str,
        kind: dict[str, Any] = IOC,
        reduce_only: bool = False,
        cloid: str | None = None,
        asset: int = SOL,
    ) -> Any:
        wire: dict[str, Any] = {"a": asset, "b": is_buy, "p": px, "s": size, "r": reduce_only, "t": kind}
        if cloid:
            wire["c"] = cloid
        answer = self.act({"type": "order", "orders": [wire], "grouping": "na"})
        return answer["response"]["data"]["statuses"][0] if answer["status"] == "ok" else answer

    def leverage(self, value: int, is_cross: bool = True) -> dict[str, Any]:
        return self.act({"type": "updateLeverage", "asset": SOL, "isCross": is_cross, "leverage": value})

    def info(self, kind: str, **request: Any) -> Any:
        self.twin.catch_up()
        return self.twin.info.handle({"type": kind, **request})

    def mine(self, kind: str, **request: Any) -> Any:
        return self.info(kind, user=self.address, **request)

    def position(self) -> dict[str, Any] | None:
        held = self.mine("clearinghouseState")["assetPositions"]
        return held[0]["position"] if held else None

    def advance(self, ms: int) -> None:
        """Let the old market run until now, then step the clock, then let the venue catch up."""
        self.twin.catch_up()
        self.world.clock.advance_to(self.world.now_ms() + ms)
        self.twin.catch_up()

    def check_ledger(self) -> None:
        """Cash is deposits, notional, fees and funding to the last digit, for every address."""
        for dump in self.twin.control("ledger", {})["accounts"].values():
            parts = sum(map(Decimal, dump["cash_parts_usd"].values()), Decimal(0))
            assert parts == Decimal(dump["cash_usd"])
