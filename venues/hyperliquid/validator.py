"""Judges every action before it is signed: what may be said to the venue at all, and within which bounds.

Nothing is signed but what stands here. What an action asks for is read back from the wire form and held against the
account's settings and against prices that did not come from the order itself. A verdict never raises: what cannot be
read is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from evenkeel.legs import IntentKind
from evenkeel.units import BPS, DAY_MS
from venues.hyperliquid.approval import Approved, Refused, take_token
from venues.hyperliquid.rounding import is_valid_price

_TOKEN = take_token()
_IOC = {"limit": {"tif": "Ioc"}}
_CLOID = re.compile(r"0x[0-9a-f]{32}")
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_NUMBER = re.compile(r"(0|[1-9]\d{0,14})(\.\d{0,7}[1-9])?")
"""As the venue writes numbers before it hashes them: no sign, no exponent, no trailing zero."""
SIGNATURE_CHAIN_ID = "0x66eee"
"""What the venue's own client signs transfers with; `hyperliquidChain` distinguishes the networks."""
MOVES_FUNDS = ("withdraw3", "usdSend")


@dataclass(frozen=True, slots=True)
class Rules:
    """The bounds of one account on one network. Slippage in bps of the mid, gaps as fractions of the oracle or mark price."""

    is_mainnet: bool
    account: str
    coins: frozenset[str] = frozenset({"SOL"})
    max_order_usd: Decimal = Decimal(550_000)
    max_short_usd: Decimal = Decimal(2_200_000)
    entry_slippage_bps: Decimal = Decimal(50)
    exit_slippage_bps: Decimal = Decimal(100)
    entry_gap: Decimal = Decimal("0.02")
    exit_gap: Decimal = Decimal("0.10")
    max_leverage: int = 4
    max_life_ms: int = 60_000
    max_reading_age_ms: int = 10_000
    withdrawal_addresses: frozenset[str] = frozenset()
    max_withdrawal_usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Request:
    """What the intent asked for: the most that an order of it may do."""

    kind: IntentKind
    is_buy: bool
    size: Decimal
    reduce_only: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What the venue showed when the order was built.

    `fair_px` is a price that the book alone cannot move: the oracle's for an opening; for a reduction the mark, which
    comes with the position itself, so that no further answer is needed to get out. `szi` is the signed position.
    """

    coin: str
    asset: int
    sz_decimals: int
    mid_px: Decimal
    fair_px: Decimal
    szi: Decimal
    seen_ms: int


class _Broken(Exception):
    def __init__(self, rule: str, reason: str, again: bool = False) -> None:
        super().__init__(rule)
        self.refused = Refused(rule, reason, again)


def _need(holds: bool, rule: str, reason: str, again: bool = False) -> None:
    if not holds:
        raise _Broken(rule, reason, again)


class HyperliquidValidator:
    """The one maker of `Approved`. Every method answers Approved or Refused, whatever it is given."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def judge_order(
        self,
        action: Mapping[str, Any],
        *,
        nonce: int,
        expires_after: int | None,
        now_ms: int,
        request: Request,
        reading: Reading,
        vault_address: str | None = None,
    ) -> Approved | Refused:
        """Judge one IOC: within what was requested, within bounds of price and size, only towards or out of a short."""

        def rules() -> str:
            self._envelope(action, ("order",), nonce, expires_after, now_ms, vault_address)
            _need("builder" not in action, "builder", "it pays a builder; we pay none")
            _keys(action, ("type", "orders", "grouping"))
            _need(action["grouping"] == "na", "grouping", f"grouping is {action['grouping']!r}, only 'na' is")
            orders = action["orders"]
            is_one = isinstance(orders, list) and len(orders) == 1
            _need(is_one, "one order", "it does not hold exactly one order")
            return self._order(orders[0], request, reading, now_ms)

        return self._verdict(rules, action, nonce, expires_after)

    def judge_setting(
        self,
        action: Mapping[str, Any],
        *,
        nonce: int,
        expires_after: int | None,
        now_ms: int,
        assets: Mapping[int, str],
        vault_address: str | None = None,
    ) -> Approved | Refused:
        """Judge leverage, cancels and noop: what risks nothing but our own orders. `assets` are coins by their number."""

        def rules() -> str:
            kinds = ("updateLeverage", "cancel", "cancelByCloid", "noop")
            self._envelope(action, kinds, nonce, expires_after, now_ms, vault_address)
            kind = action["type"]
            if kind == "noop":
                _keys(action, ("type",))
                return "noop"
            if kind == "updateLeverage":
                return self._leverage(action, assets)
            _keys(action, ("type", "cancels"))
            cancels = action["cancels"]
            _need(
                isinstance(cancels, list) and 0 < len(cancels) <= 100,
                "cancels",
                "it holds no list of 1 to 100",
            )
            for one in cancels:
                if kind == "cancel":
                    _keys(one, ("a", "o"))
                    self._asset(one["a"], assets)
                    _need(type(one["o"]) is int and one["o"] >= 0, "order id", f"{one['o']!r} is none")
                else:
                    _keys(one, ("asset", "cloid"))
                    self._asset(one["asset"], assets)
                    _cloid(one["cloid"])
            return f"{kind} of {len(cancels)}"

        return self._verdict(rules, action, nonce, expires_after)

    def judge_transfer(
        self, action: Mapping[str, Any], *, nonce: int, now_ms: int, signer: str
    ) -> Approved | Refused:
        """Judge a withdrawal or a transfer of USDC: by the account's own key, to a listed address, at most so much. The
        trading host holds no such key, and the list is empty unless the settings fill it.
        """

        def rules() -> str:
            kind = action.get("type")
            _need(kind in MOVES_FUNDS, "action allowlist", f"action {kind!r} is never signed")
            _keys(
                action,
                ("type", "hyperliquidChain", "signatureChainId", "amount", "time", "destination"),
                ordered=False,
            )
            chain = "Mainnet" if self.rules.is_mainnet else "Testnet"
            _need(
                action["hyperliquidChain"] == chain,
                "network",
                f"it is for {action['hyperliquidChain']!r}, the settings for {chain}",
            )
            _need(
                action["signatureChainId"] == SIGNATURE_CHAIN_ID,
                "chain id",
                f"{action['signatureChainId']!r} is not {SIGNATURE_CHAIN_ID}",
            )
            _need(
                signer == self.rules.account,
                "master key",
                f"{signer} is not the account {self.rules.account}: only its own key moves funds",
            )
            self._nonce(nonce, now_ms)
            _need(
                type(action["time"]) is int and action["time"] == nonce, "nonce", "its time is not its nonce"
            )
            to = action["destination"]
            _need(
                type(to) is str and _ADDRESS.fullmatch(to) is not None, "destination", f"{to!r} is no address"
            )
            _need(
                to in self.rules.withdrawal_addresses,
                "destination",
                f"{to} is not among the {len(self.rules.withdrawal_addresses)} addresses that may receive funds "
                "(safety.withdrawal_hyperliquid)",
            )
            amount, most = _number(action["amount"], "amount"), self.rules.max_withdrawal_usd
            _need(0 < amount <= most, "withdrawal cap", f"{amount} USD is not above 0 and at most {most} USD")
            return f"{kind} of {amount} USD to {to}"

        return self._verdict(rules, action, nonce, None, is_transfer=True)

    # --- the rules ----------------------------------------------------------------------------------------

    def _verdict(
        self,
        rules: Callable[[], str],
        action: Mapping[str, Any],
        nonce: int,
        expires_after: int | None,
        is_transfer: bool = False,
    ) -> Approved | Refused:
        try:
            judged = rules()
            return Approved(
                _TOKEN,
                dict(action),
                nonce=nonce,
                expires_after=expires_after,
                is_mainnet=self.rules.is_mainnet,
                is_transfer=is_transfer,
                judged=judged,
            )
        except _Broken as broken:
            return broken.refused
        except (
            AttributeError,
            TypeError,
            ValueError,
            KeyError,
            IndexError,
            ArithmeticError,
            RecursionError,
        ) as error:
            return Refused("shape", f"it cannot be read ({type(error).__name__})")

    def _envelope(
        self,
        action: Mapping[str, Any],
        kinds: tuple[str, ...],
        nonce: int,
        expires_after: int | None,
        now_ms: int,
        vault_address: str | None,
    ) -> None:
        kind = action.get("type")
        _need(type(kind) is str and kind in kinds, "action allowlist", f"action {kind!r} is none of {kinds}")
        _need(vault_address is None, "vault", f"it acts for {vault_address!r}; we act for the account alone")
        self._nonce(nonce, now_ms)
        _need(
            type(expires_after) is int,
            "expiry",
            "it has no expiresAfter, so it could execute at any later time",
        )
        assert expires_after is not None
        _need(expires_after > now_ms, "expiry", f"it expired {now_ms - expires_after} ms ago", again=True)
        life = expires_after - now_ms
        _need(
            life <= self.rules.max_life_ms,
            "expiry",
            f"it lives {life} ms, at most {self.rules.max_life_ms} may pass",
        )

    def _nonce(self, nonce: int, now_ms: int) -> None:
        """The venue's window: two days back, one day ahead."""
        good = type(nonce) is int and now_ms - 2 * DAY_MS < nonce < now_ms + DAY_MS
        _need(good, "nonce", f"{nonce!r} is outside of the venue's window around {now_ms}")

    def _asset(self, asset: Any, assets: Mapping[int, str]) -> str:
        coin = assets.get(asset) if type(asset) is int else None
        _need(
            coin in self.rules.coins,
            "asset",
            f"asset {asset!r} is {coin}, allowed are {sorted(self.rules.coins)}",
        )
        return str(coin)

    def _leverage(self, action: Mapping[str, Any], assets: Mapping[int, str]) -> str:
        _keys(action, ("type", "asset", "isCross", "leverage"))
        coin = self._asset(action["asset"], assets)
        _need(
            action["isCross"] is True,
            "cross margin",
            "it asks for isolated margin, which would strand collateral",
        )
        leverage, most = action["leverage"], self.rules.max_leverage
        whole = type(leverage) is int and 1 <= leverage <= most
        _need(whole, "leverage", f"leverage {leverage!r} is not a whole number from 1 to {most}")
        return f"leverage {leverage} of {coin}"

    def _order(self, order: Any, request: Request, reading: Reading, now_ms: int) -> str:
        rules = self.rules
        _keys(order, ("a", "b", "p", "s", "r", "t", "c"))
        self._asset(order["a"], {reading.asset: reading.coin})
        _need(
            order["t"] == _IOC,
            "immediate or cancel",
            f"its type is {order['t']!r}; nothing of ours ever rests",
        )
        _cloid(order["c"])
        is_buy, reduces = order["b"], order["r"]
        _need(
            type(is_buy) is bool and type(reduces) is bool, "shape", "side or reduce-only is no truth value"
        )
        size, price = _number(order["s"], "size"), _number(order["p"], "price")
        _need(size > 0, "size", "its size is 0")
        _need(
            size % Decimal(1).scaleb(-reading.sz_decimals) == 0, "size", f"{size} is no multiple of the lot"
        )
        _need(
            size <= request.size,
            "size",
            f"{size} {reading.coin} is more than the {request.size} that were asked for",
        )
        does = "buys" if is_buy else "sells"
        _need(is_buy == request.is_buy, "side", f"it {does}, asked for was the other side")
        leaves = request.kind == IntentKind.CLOSE or request.reduce_only or is_buy
        _need(reduces or not leaves, "reduce-only", "it leaves a position without being reduce-only")
        _need(reduces == request.reduce_only, "reduce-only", "it is reduce-only, which was not asked for")
        opens = request.kind == IntentKind.OPEN
        _need(not (opens and reduces), "reduce-only", "an opening cannot be reduce-only")
        age = now_ms - reading.seen_ms
        fresh = 0 <= age <= rules.max_reading_age_ms
        _need(fresh, "fresh reading", f"its prices are {age} ms old", again=True)
        if reduces:
            opposite = reading.szi < 0 if is_buy else reading.szi > 0
            _need(opposite, "reduce-only", f"the position is {reading.szi}: nothing to reduce on that side")
        else:
            _need(
                reading.szi <= 0,
                "shorts only",
                f"the account is long {reading.szi} {reading.coin}, which is not ours",
            )
        self._price(price, is_buy, request.kind, reduces, reading)
        worth = size * max(price, reading.mid_px, reading.fair_px)
        if not reduces:  # what leaves the position is bounded by the position
            _need(
                worth <= rules.max_order_usd,
                "notional cap",
                f"{worth:.2f} USD is above {rules.max_order_usd} USD",
            )
            held = worth + abs(reading.szi) * max(reading.mid_px, reading.fair_px)
            _need(
                held <= rules.max_short_usd,
                "short cap",
                f"{held:.2f} USD would be above {rules.max_short_usd} USD",
            )
        side = ("buy" if is_buy else "sell") + (" reduce-only" if reduces else "")
        return f"{side} {size} {reading.coin} at {price}, mid {reading.mid_px}, fair {reading.fair_px}, {worth:.0f} USD"

    def _price(self, price: Decimal, is_buy: bool, kind: IntentKind, reduces: bool, reading: Reading) -> None:
        rules = self.rules
        _need(reading.mid_px > 0 and reading.fair_px > 0, "price", "there is no price to judge it by")
        _need(is_valid_price(price, reading.sz_decimals), "price", f"{price} is not on a tick")
        bps = rules.entry_slippage_bps if kind == IntentKind.OPEN else rules.exit_slippage_bps
        gap = rules.exit_gap if reduces else rules.entry_gap
        for rule, reference, share in (
            ("slippage cap", reading.mid_px, bps / BPS),
            ("reference price", reading.fair_px, gap),
        ):
            worst = reference * (1 + share if is_buy else 1 - share)
            within = price <= worst if is_buy else price >= worst
            _need(
                within, rule, f"limit {price} is beyond {worst:.4f}, {share * 100:f} % away from {reference}"
            )


def _keys(found: Any, wanted: tuple[str, ...], ordered: bool = True) -> None:
    """Exactly these fields. In this order where the order is hashed."""
    names = tuple(found) if isinstance(found, dict) else None
    same = names == wanted if ordered else names is not None and sorted(map(str, names)) == sorted(wanted)
    _need(same, "fields", f"its fields are {names}, expected are {wanted}")


def _number(text: Any, what: str) -> Decimal:
    _need(
        type(text) is str and _NUMBER.fullmatch(text) is not None,
        what,
        f"{text!r} is not as the venue writes numbers",
    )
    return Decimal(text)


def _cloid(text: Any) -> None:
    _need(type(text) is str and _CLOID.fullmatch(text) is not None, "client order id", f"{text!r} is none")
