"""POST /info: every read that needs no history of its own; dispatch by `type`."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from twins.hyperliquid import history, meta, modes
from twins.hyperliquid.account import Account
from twins.hyperliquid.engine import Engine
from twins.hyperliquid.errors import BadRequest
from twins.hyperliquid.funding import hourly_rate, next_hour_ms
from twins.hyperliquid.limits import AddressBudget
from twins.hyperliquid.margin import clearinghouse_state, order_margin, state_of
from twins.hyperliquid.meta import BY_NAME, UNIVERSE
from twins.hyperliquid.numbers import ZERO, lower_address, num, to_lot

VENUE = "hyperliquid"
Request = dict[str, Any]
STALEABLE = frozenset({"metaAndAssetCtxs", "l2Book", "allMids", "clearinghouseState", "activeAssetData"})


def user_of(request: Request) -> str:
    found = lower_address(request.get("user"))
    if found is None:
        raise BadRequest
    return found


def coin_of(request: Request) -> str | None:
    """Return a listed coin, None for an unknown name; BadRequest where it is no string."""
    coin = request.get("coin")
    if not isinstance(coin, str):
        raise BadRequest
    return coin if coin in BY_NAME else None


class Info:
    """Answers reads. `handle` gives the JSON body; an unknown type or wrong JSON types raise
    BadRequest (HTTP 422).
    """

    def __init__(self, engine: Engine, budget: AddressBudget) -> None:
        self.engine = engine
        self.budget = budget
        self._types: dict[str, Callable[[Request, int], Any]] = {
            "meta": lambda request, t: self._perp_dex_only(request, meta.meta()),
            "metaAndAssetCtxs": self._meta_and_contexts,
            "spotMeta": lambda request, t: meta.spot_meta(),
            "spotMetaAndAssetCtxs": lambda request, t: [meta.spot_meta(), []],
            "perpDexs": lambda request, t: [None],
            "allMids": lambda request, t: self._perp_dex_only(request, self.all_mids(t)),
            "l2Book": self._book,
            "predictedFundings": self._predicted,
            "perpsAtOpenInterestCap": lambda request, t: [],
            "clearinghouseState": self._clearinghouse,
            "spotClearinghouseState": self._spot_state,
            "activeAssetData": lambda request, t: self.active_asset(user_of(request), coin_of(request), t),
            "userAbstraction": lambda request, t: engine.read(user_of(request)).abstraction,
            "userDexAbstraction": lambda request, t: engine.read(user_of(request)).dex_abstraction,
            "userRateLimit": self._rate_limit,
            "userFees": self._fees,
            "userRole": self._role,
            "extraAgents": self._agents,
            "maxBuilderFee": self._builder_fee,
            "referral": self._referral,
            "subAccounts": lambda request, t: self._of_user(request, None),
            "userVaultEquities": lambda request, t: self._of_user(request, []),
            "userTwapSliceFills": lambda request, t: self._of_user(request, []),
            "delegations": lambda request, t: self._of_user(request, []),
            "delegatorRewards": lambda request, t: self._of_user(request, []),
            "delegatorHistory": lambda request, t: self._of_user(request, []),
            "delegatorSummary": lambda request, t: self._of_user(request, dict(NO_STAKE)),
            "userToMultiSigSigners": lambda request, t: self._of_user(request, None),
            "exchangeStatus": lambda request, t: {"time": t, "specialStatuses": None},
            "usdcRouting": lambda request, t: {"depositRoute": "bridge", "withdrawalRoute": "bridge"},
            **history.reads(engine),
        }

    def handle(self, request: Any) -> Any:
        if not isinstance(request, dict) or not isinstance(request.get("type"), str):
            raise BadRequest
        kind = request["type"]
        read = self._types.get(kind)
        if read is None:
            raise BadRequest
        t_ms = self.engine.now_ms
        if kind in STALEABLE:
            stale = self.engine.faults.take(VENUE, "stale", f"info:{kind}")
            if stale is not None:
                t_ms -= int(float(stale.args.get("age_s", 60)) * 1000)
        return read(request, t_ms)

    @staticmethod
    def _of_user(request: Request, answer: Any) -> Any:
        user_of(request)
        return answer

    @staticmethod
    def _perp_dex_only(request: Request, answer: Any) -> Any:
        """Only the venue's own dex ("" or absent) exists here."""
        if request.get("dex") not in (None, ""):
            raise BadRequest
        return answer

    # --- market

    def all_mids(self, t_ms: int) -> dict[str, str]:
        market = self.engine.market
        return {one.name: num(market.quote(one.name, t_ms).mid) for one in UNIVERSE if not one.delisted}

    def _meta_and_contexts(self, request: Request, t_ms: int) -> Any:
        contexts = [self.engine.market.context(asset, t_ms) for asset in UNIVERSE]
        return self._perp_dex_only(request, [meta.meta(), contexts])

    def _book(self, request: Request, t_ms: int) -> Any:
        coin, figures = coin_of(request), request.get("nSigFigs")
        if figures is not None and figures not in (2, 3, 4, 5):
            raise BadRequest
        return self.engine.books.snapshot(coin, t_ms, figures) if coin else None

    def _predicted(self, request: Request, t_ms: int) -> Any:
        """This venue's estimate of the hour's rate, its premium staying where it is; the other venues of the
        real answer are not part of the world (null).
        """
        rows = []
        for asset in UNIVERSE:
            if asset.delisted:
                continue
            own = {
                "fundingRate": num(hourly_rate(self.engine.market.predicted_premium(asset.name, t_ms))),
                "nextFundingTime": next_hour_ms(t_ms),
                "fundingIntervalHours": 1,
            }
            rows.append([asset.name, [["BinPerp", None], ["HlPerp", own], ["BybitPerp", None]]])
        return rows

    # --- account

    def _clearinghouse(self, request: Request, t_ms: int) -> Any:
        self._perp_dex_only(request, None)
        return self.clearinghouse(user_of(request), t_ms)

    def clearinghouse(self, user: str, t_ms: int) -> dict[str, Any]:
        """Return the state now, or as it was at an earlier `t_ms` (stale answers): money, positions and marks of that
        time.
        """
        engine = self.engine
        account, marks = engine.read(user), engine.market.marks(t_ms)
        if t_ms >= engine.now_ms:
            orders = list(account.open_orders.values())
            return clearinghouse_state(account, account.raw_usd, account.positions, orders, marks, t_ms)
        then = account.snapshot_at(t_ms)
        return clearinghouse_state(account, then.raw_usd, then.positions, [], marks, t_ms)

    def _spot_state(self, request: Request, t_ms: int) -> Any:
        account = self.engine.read(user_of(request))
        if account.address not in self.engine.accounts:
            return {"balances": []}
        return modes.spot_state(account, self.engine.marks())

    def active_asset(self, user: str, coin: str | None, t_ms: int) -> dict[str, Any]:
        """Return the leverage setting and what may still be traded, [buy, sell]: closing the other side comes on top."""
        if coin is None or BY_NAME[coin].delisted:
            raise BadRequest
        engine = self.engine
        account, mark = engine.read(user), engine.market.mark(coin, t_ms)
        setting, orders = account.leverage_of(coin), list(account.open_orders.values())
        state = state_of(account, account.raw_usd, account.positions, orders, engine.market.marks(t_ms))
        bound = state.cross.margin_used + order_margin(account, account.positions, orders)
        free = max(ZERO, state.cross.account_value - bound)
        held = account.szi(coin)
        sizes, funds = [], []
        for is_buy in (True, False):
            opposite = held != 0 and (held > 0) != is_buy
            available = free + (2 * abs(held) * mark / setting.value if opposite else ZERO)
            funds.append(num(available.quantize(Decimal("0.000001"))))
            sizes.append(num(to_lot(available * setting.value / mark, BY_NAME[coin].sz_decimals)))
        return {
            "user": user,
            "coin": coin,
            "leverage": {"type": "cross" if setting.is_cross else "isolated", "value": setting.value},
            "maxTradeSzs": sizes,
            "availableToTrade": funds,
            "markPx": num(mark),
        }

    def _rate_limit(self, request: Request, t_ms: int) -> Any:
        account = self.engine.read(user_of(request))
        return {
            "cumVlm": num(account.cum_volume_usd),
            "nRequestsUsed": account.requests_used,
            "nRequestsCap": self.budget.cap(account),
            "nRequestsSurplus": 0,
        }

    def _fees(self, request: Request, t_ms: int) -> Any:
        user_of(request)
        return {
            "dailyUserVlm": [],
            "feeSchedule": {
                "cross": "0.00045",
                "add": "0.00015",
                "spotCross": "0.0007",
                "spotAdd": "0.0004",
                "tiers": {"vip": [dict(tier) for tier in VIP], "mm": []},
                "referralDiscount": "0.04",
                "stakingDiscountTiers": [],
            },
            "userCrossRate": "0.00045",
            "userAddRate": "0.00015",
            "userSpotCrossRate": "0.0007",
            "userSpotAddRate": "0.0004",
            "activeReferralDiscount": "0.0",
            "trial": None,
            "feeTrialEscrow": "0.0",
            "nextTrialAvailableTimestamp": None,
            "stakingLink": None,
            "activeStakingDiscount": {"bpsOfMaxSupply": "0.0", "discount": "0.0"},
        }

    def _role(self, request: Request, t_ms: int) -> Any:
        user = user_of(request)
        if user in self.engine.masters:
            return {"role": "agent", "data": {"user": self.engine.masters[user]}}
        return {"role": "user" if user in self.engine.accounts else "missing"}

    def _agents(self, request: Request, t_ms: int) -> Any:
        account: Account = self.engine.read(user_of(request))
        return [
            {"name": one.name, "address": one.address, "validUntil": one.valid_until_ms}
            for one in account.agents.values()
            if one.name is not None and one.valid_until_ms > self.engine.now_ms
        ]

    def _builder_fee(self, request: Request, t_ms: int) -> Any:
        """Approved maximum in tenths of a basis point."""
        rates = self.engine.read(user_of(request)).builder_fees
        rate = rates.get(lower_address(request.get("builder")) or "")
        return int(Decimal(rate.rstrip("%")) * 1000) if rate else 0

    def _referral(self, request: Request, t_ms: int) -> Any:
        account = self.engine.read(user_of(request))
        referred = {"referrer": "0x" + "0" * 40, "code": account.referrer_code}
        return {
            "referredBy": referred if account.referrer_code else None,
            "cumVlm": num(account.cum_volume_usd),
            "unclaimedRewards": "0.0",
            "claimedRewards": "0.0",
            "builderRewards": "0.0",
            "referrerState": None,
            "rewardHistory": [],
        }


NO_STAKE = {
    "delegated": "0.0",
    "undelegated": "0.0",
    "totalPendingWithdrawal": "0.0",
    "nPendingWithdrawals": 0,
}
VIP = (
    {
        "ntlCutoff": "5000000.0",
        "cross": "0.0004",
        "add": "0.00012",
        "spotCross": "0.0006",
        "spotAdd": "0.0003",
    },
    {
        "ntlCutoff": "25000000.0",
        "cross": "0.00035",
        "add": "0.00008",
        "spotCross": "0.0005",
        "spotAdd": "0.0002",
    },
)
