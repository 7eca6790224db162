"""POST /exchange: who signed, may they, has this nonce been used, and then the action itself."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from twins.hyperliquid import auth, placing
from twins.hyperliquid.account import Account, Leverage
from twins.hyperliquid.engine import Engine
from twins.hyperliquid.errors import ActionRefused, BadRequest
from twins.hyperliquid.limits import AddressBudget
from twins.hyperliquid.margin import margin_used, notional
from twins.hyperliquid.meta import UNIVERSE, Asset
from twins.hyperliquid.modes import require_apart
from twins.hyperliquid.numbers import lower_address, num
from twins.hyperliquid.transfers import USER_ACTIONS, free_usd

Action = dict[str, Any]
Answer = dict[str, Any]
SCHEDULE_MIN_VOLUME_USD = Decimal(1_000_000)
SUB_ACCOUNT_MIN_VOLUME_USD = Decimal(100_000)
SCHEDULE_MIN_AHEAD_MS = 5_000
SCHEDULE_MAX_PER_DAY = 10
DAY_MS = 86_400_000
MICRO = Decimal("0.000001")
DEFAULT: Answer = {"type": "default"}


def statuses(kind: str, rows: list[Any]) -> Answer:
    return {"type": kind, "data": {"statuses": rows}}


class Exchange:
    """Executes signed actions on the engine."""

    def __init__(self, engine: Engine, nonces: auth.Nonces, budget: AddressBudget) -> None:
        self.engine = engine
        self.nonces = nonces
        self.budget = budget
        self._l1: dict[str, Callable[[Account, Action], Answer]] = {
            "order": self._order,
            "cancel": self._cancel,
            "cancelByCloid": self._cancel_by_cloid,
            "modify": self._modify,
            "batchModify": self._batch_modify,
            "updateLeverage": self._update_leverage,
            "updateIsolatedMargin": self._update_isolated_margin,
            "scheduleCancel": self._schedule_cancel,
            "noop": lambda _account, _action: DEFAULT,
            "setReferrer": self._set_referrer,
            "createSubAccount": self._create_sub_account,
            "subAccountTransfer": self._foreign("subAccountUser"),
            "subAccountSpotTransfer": self._foreign("subAccountUser"),
            "vaultTransfer": self._foreign("vaultAddress"),
            "agentSetAbstraction": self._agent_set_abstraction,
            "agentEnableDexAbstraction": self._agent_enable_dex_abstraction,
        }

    def handle(self, body: Any) -> Answer:
        """Return the JSON answer of one request. Raises BadRequest (HTTP 422) where the body is not one of the known
        shapes.
        """
        action = self._shape(body)
        try:
            return {"status": "ok", "response": self._run(body, action)}
        except ActionRefused as refused:
            return {"status": "err", "response": str(refused)}

    def _shape(self, body: Any) -> Action:
        if not isinstance(body, dict) or not isinstance(body.get("action"), dict):
            raise BadRequest
        action: Action = body["action"]
        signature, nonce, expires = body.get("signature"), body.get("nonce"), body.get("expiresAfter")
        known = action.get("type") in self._l1 or action.get("type") in USER_ACTIONS
        if not known or type(nonce) is not int or not isinstance(signature, dict):
            raise BadRequest
        if nonce < 0 or (expires is not None and (type(expires) is not int or expires < 0)):
            raise BadRequest
        if body.get("vaultAddress") is not None and lower_address(body["vaultAddress"]) is None:
            raise BadRequest
        return action

    def _run(self, body: dict[str, Any], action: Action) -> Answer:
        engine, kind, nonce = self.engine, action["type"], body["nonce"]
        signer = auth.recover(body)
        if kind in USER_ACTIONS:
            if action.get("hyperliquidChain") != "Testnet":
                raise ActionRefused(f"Invalid chain: {action.get('hyperliquidChain')}")
            account = engine.accounts[auth.owner_of_user_signed(engine, signer)]
            if action.get(auth.USER_SIGNED_NONCE.get(kind, "nonce")) != nonce:
                raise ActionRefused("Invalid nonce: the action's own nonce differs")
            if body.get("expiresAfter") is not None:
                raise ActionRefused("expiresAfter is not supported for user signed actions")
            self.nonces.use(signer, nonce, engine.now_ms)
            self.budget.spend(account, action, engine.now_ms)
            USER_ACTIONS[kind](engine, account, action)
            return DEFAULT
        account = engine.accounts[auth.owner_of_l1(engine, signer)]
        if body.get("vaultAddress") is not None:
            raise ActionRefused(f"Vault not registered: {lower_address(body['vaultAddress'])}")
        self.nonces.use(signer, nonce, engine.now_ms)
        expires = body.get("expiresAfter")
        if expires is not None and engine.now_ms > expires:
            account.requests_used += 5  # a stale action costs five times its share of the budget
            raise ActionRefused(f"Action expired: expiresAfter {expires} has passed")
        self.budget.spend(account, action, engine.now_ms)
        return self._l1[kind](account, action)

    # --- orders

    def _order(self, account: Account, action: Action) -> Answer:
        wires = action.get("orders")
        if not isinstance(wires, list) or not wires:
            raise BadRequest
        parsed = [placing.parse(self.engine, wire) for wire in wires]
        if action.get("grouping") == "normalTpsl":
            rows = placing.place_group(self.engine, account, wires, parsed, "exchange:order")
            return statuses("order", rows)
        rows = [
            placing.place(self.engine, account, wire, one, "exchange:order")
            for wire, one in zip(wires, parsed, strict=True)
        ]
        return statuses("order", rows)

    def _cancel(self, account: Account, action: Action) -> Answer:
        wires = action.get("cancels")
        if not isinstance(wires, list) or not all(
            isinstance(one, dict) and type(one.get("a")) is int and type(one.get("o")) is int for one in wires
        ):
            raise BadRequest
        return statuses("cancel", [placing.cancel(self.engine, account, one["o"], one["a"]) for one in wires])

    def _cancel_by_cloid(self, account: Account, action: Action) -> Answer:
        wires = action.get("cancels")
        if not isinstance(wires, list) or not all(
            isinstance(one, dict) and type(one.get("asset")) is int and isinstance(one.get("cloid"), str)
            for one in wires
        ):
            raise BadRequest
        rows = [placing.cancel(self.engine, account, one["cloid"], one["asset"]) for one in wires]
        return statuses("cancel", rows)

    def _modify(self, account: Account, action: Action) -> Answer:
        row = placing.modify(self.engine, account, action.get("oid"), action.get("order"), "exchange:modify")
        if isinstance(row, dict) and "error" in row:
            raise ActionRefused(row["error"])
        return DEFAULT

    def _batch_modify(self, account: Account, action: Action) -> Answer:
        wires = action.get("modifies")
        if not isinstance(wires, list) or not all(isinstance(one, dict) for one in wires):
            raise BadRequest
        call = "exchange:batchModify"
        rows = [placing.modify(self.engine, account, one.get("oid"), one.get("order"), call) for one in wires]
        return statuses("order", rows)

    # --- margin settings

    @staticmethod
    def _asset(action: Action) -> Asset:
        asset = action.get("asset")
        if type(asset) is not int or not 0 <= asset < len(UNIVERSE):
            raise BadRequest
        return UNIVERSE[asset]

    def _update_leverage(self, account: Account, action: Action) -> Answer:
        """Governs later openings; a held position keeps its margin (isolated: a decrease must be covered)."""
        asset, is_cross, value = self._asset(action), action.get("isCross"), action.get("leverage")
        if type(is_cross) is not bool or type(value) is not int:
            raise BadRequest
        if not 1 <= value <= asset.max_leverage or asset.delisted:
            raise ActionRefused("Invalid leverage value")
        held = account.positions.get(asset.name)
        if held is not None and held.is_cross != is_cross:
            raise ActionRefused("Cannot switch leverage type with open position.")
        if held is not None and not held.is_cross and value < held.leverage.value:
            marks = self.engine.marks()
            if margin_used(held, marks) < notional(held, marks) / value:
                raise ActionRefused(
                    "Isolated position does not have sufficient margin available to decrease leverage. "
                    "To decrease leverage, add margin to the position."
                )
        account.leverage[asset.name] = Leverage(is_cross, value)
        if held is not None and not held.is_cross:
            held.leverage = Leverage(is_cross, value)
        return DEFAULT

    def _update_isolated_margin(self, account: Account, action: Action) -> Answer:
        asset, micro_usd = self._asset(action), action.get("ntli")
        if type(micro_usd) is not int or type(action.get("isBuy")) is not bool:
            raise BadRequest
        held = account.positions.get(asset.name)
        if held is None or held.raw_usd is None:
            raise ActionRefused("Position is not isolated.")
        amount = micro_usd * MICRO
        marks = self.engine.marks()
        if amount > 0 and amount > free_usd(self.engine, account):
            raise ActionRefused("Insufficient margin to add to the position.")
        own = margin_used(held, marks)
        needed = max(notional(held, marks) / held.leverage.value, notional(held, marks) / 10)
        if amount < 0 and own + amount < needed:
            raise ActionRefused("Insufficient margin to remove from the position.")
        held.raw_usd += amount
        account.raw_usd -= amount
        account.record(self.engine.now_ms)
        return DEFAULT

    # --- the rest

    def _schedule_cancel(self, account: Account, action: Action) -> Answer:
        time_ms = action.get("time")
        if time_ms is not None and type(time_ms) is not int:
            raise BadRequest
        if account.cum_volume_usd < SCHEDULE_MIN_VOLUME_USD:
            raise ActionRefused(
                "Cannot set scheduled cancel time until enough volume traded. "
                f"Required: ${SCHEDULE_MIN_VOLUME_USD}. Traded: ${num(account.cum_volume_usd).removesuffix('.0')}."
            )
        now = self.engine.now_ms
        today = sum(1 for at in account.cancel_triggers if at // DAY_MS == now // DAY_MS)
        if time_ms is not None and time_ms < now + SCHEDULE_MIN_AHEAD_MS:
            raise ActionRefused("Scheduled cancel time must be at least 5 seconds in the future.")
        if time_ms is not None and today >= SCHEDULE_MAX_PER_DAY:
            raise ActionRefused("Too many scheduled cancels triggered today.")
        account.scheduled_cancel_ms = time_ms
        return DEFAULT

    def _set_referrer(self, account: Account, action: Action) -> Answer:
        code = action.get("code")
        if not isinstance(code, str):
            raise BadRequest
        if account.referrer_code is not None:
            raise ActionRefused("Referrer already set.")
        account.referrer_code = code
        return DEFAULT

    def _create_sub_account(self, account: Account, action: Action) -> Answer:
        """The twin keeps no sub-accounts: it has as many as a venue grants to a fresh account,
        or to a grown one.
        """
        if not isinstance(action.get("name"), str):
            raise BadRequest
        if account.cum_volume_usd < SUB_ACCOUNT_MIN_VOLUME_USD:
            raise ActionRefused(
                "Cannot create sub-accounts until enough volume traded. "
                f"Required: ${SUB_ACCOUNT_MIN_VOLUME_USD}. Traded: ${num(account.cum_volume_usd)}."
            )
        raise ActionRefused("Too many sub-accounts.")

    @staticmethod
    def _foreign(key: str) -> Callable[[Account, Action], Answer]:
        """Transfers with a vault or sub-account, none of which is registered here."""

        def refuse(_account: Account, action: Action) -> Answer:
            address = lower_address(action.get(key))
            if address is None:
                raise BadRequest
            raise ActionRefused(f"Vault not registered: {address}")

        return refuse

    @staticmethod
    def _agent_enable_dex_abstraction(account: Account, _action: Action) -> Answer:
        require_apart(account)
        account.dex_abstraction = True
        return DEFAULT

    @staticmethod
    def _agent_set_abstraction(_account: Account, _action: Action) -> Answer:
        raise ActionRefused("Abstraction transition not allowed")
