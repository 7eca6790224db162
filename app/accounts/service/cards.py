"""What a user reads of an agent: venue, share, rules, what it earned so far, what it can do and what it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.accounts.service.service import Service
from app.accounts.service.wallet import agents_of
from state.accounts.models import Agent, DeploymentState, Origin, TradeState
from strategy.accounts.share import FeeModel
from strategy.accounts.stops import StopRules

MODELS = {
    FeeModel.PER_TRADE: "of the net profit of each trade",
    FeeModel.HIGH_WATER: "of the profit above your account's best result so far",
}
CAN = (
    "open trades with your USDC, at the market or at a price, each within the limits that you set",
    "cancel what waits for its price, close trades wholly or in part, and move their stops",
)
CANNOT = (
    "send your USDC anywhere but into your own trades",
    "withdraw, or name somebody else your delegate",
    "take more of your USDC than you allow",
)


@dataclass(frozen=True)
class Card:
    """One agent. Money is USDC."""

    name: str
    venue: str
    key: str
    share_pct: Decimal
    model: str
    rules: tuple[str, ...]
    users: int
    closed: int
    won: int
    result_usdc: Decimal
    open_now: int


def cards(service: Service) -> list[Card]:
    """The agents whom one can name here."""
    return [_card(service, one) for one in agents_of(service)]


def _card(service: Service, agent: Agent) -> Card:
    accounts = service.store.accounts
    mine = {one.deployment_id: one for one in accounts.deployments() if one.agent_id == agent.agent_id}
    trades = [one for one in accounts.trades() if one.deployment_id in mine and one.origin is Origin.DESK]
    closed = [one for one in trades if one.state is TradeState.CLOSED]
    rules = StopRules.model_validate(agent.rules.get("stops", {}))
    return Card(
        name=agent.agent_id,
        venue="Ostium on Arbitrum",
        key=agent.key_address,
        share_pct=(agent.share * 100).normalize(),
        model=MODELS[FeeModel(agent.fee_model)],
        rules=(
            f"A stop stands at the venue from the beginning, where {_pct(rules.most_loss)} % of what was paid is lost; "
            "in a fast market it can be more.",
            f"From a gain of {_pct(rules.trail_from)} % on the stop follows the price, "
            f"{_pct(rules.give_back)} % below the best; it is never loosened.",
            "A stop that you move yourself is left alone.",
        ),
        users=sum(one.state is not DeploymentState.REVOKED for one in mine.values()),
        closed=len(closed),
        won=sum(one.result_usdc > 0 for one in closed),
        result_usdc=sum((one.result_usdc for one in closed), Decimal(0)),
        open_now=sum(one.state in (TradeState.OPEN, TradeState.CLOSING) for one in trades),
    )


def _pct(value: Decimal) -> str:
    return f"{(value * 100).normalize():f}"
