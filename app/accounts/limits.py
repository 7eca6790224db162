"""What a user may be asked to allow: the most of one trade, within bounds, stored with his deployment."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from state.accounts.models import Agent, Deployment
from state.store import Store
from venues.ostium.contracts import LEVERAGE_PLACES, USDC_PLACES
from venues.ostium.validator import Limits

MOST_COLLATERAL_USDC = 10**6
MOST_LEVERAGE = 200
MOST_SLIPPAGE_BPS = 1_000


class Asked(NamedTuple):
    """The most of one trade; None: what is stored already or, for a new deployment, `USUAL`."""

    collateral: Decimal | None = None
    leverage: Decimal | None = None
    slippage_bps: int | None = None


USUAL = Limits(
    pairs=frozenset(),
    most_collateral_usdc=Decimal(100),
    most_leverage=Decimal(3),
    most_slippage_bps=100,
)


def agent_named(store: Store, name: str) -> Agent:
    """Return an agent. Raises OperatorError for one that there is not."""
    found = next((one for one in store.accounts.agents() if one.agent_id == name), None)
    if found is None:
        raise OperatorError(f"there is no agent {name!r}: `evenkeel accounts agent {name}` stores one")
    return found


def refuse_unusable(asked: Asked) -> None:
    """Raise OperatorError for a limit that is out of bounds: one that lets nothing be traded, or that limits nothing."""
    _bounded("collateral", asked.collateral, "0.000001", MOST_COLLATERAL_USDC, USDC_PLACES, " USDC")
    _bounded("leverage", asked.leverage, "1", MOST_LEVERAGE, LEVERAGE_PLACES, "")
    _bounded("slippage", asked.slippage_bps, "1", MOST_SLIPPAGE_BPS, 0, " basis points")


def _bounded(name: str, value: Decimal | int | None, least: str, most: int, places: int, unit: str) -> None:
    if value is None:
        return
    found = Decimal(value)
    whole = found.is_finite() and Decimal(least) <= found <= most and found == round(found, places)
    if not whole:
        decimals = f", with at most {places} decimals" if places else ""
        raise OperatorError(f"a {name} of {value} is not from {least} to {most}{unit}{decimals}")


def store_deployment(
    settings: Settings, store: Store, wallet: str, agent: str, asked: Asked = Asked()
) -> Deployment:
    """Store that a user lets an agent trade, PAUSED until the chain shows it; for one who does already, other limits from now
    on. Raises OperatorError for an agent that there is not, and as `refuse_unusable` does.
    """
    agent_named(store, agent)
    refuse_unusable(asked)
    names = ("most_collateral_usdc", "most_leverage", "most_slippage_bps")
    given = {name: value for name, value in zip(names, asked, strict=True) if value is not None}
    limits = USUAL.model_copy(update={"pairs": frozenset(settings.ostium.markets), **given})
    plain = limits.model_dump(mode="json") | {"pairs": sorted(limits.pairs)}
    store.accounts.add_user(wallet)
    # The whole address: the first digits of two wallets can be the same.
    row = store.accounts.deploy(f"{agent}-{wallet[2:]}", wallet, agent, plain)
    return store.accounts.set_limits(row.deployment_id, row.limits | {name: plain[name] for name in given})
