"""What the page for users asks: who it deals with, calls for the user's own wallet to sign, and his deployments."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from app.accounts import actions
from app.accounts.limits import MOST_COLLATERAL_USDC, MOST_LEVERAGE, Asked, store_deployment
from app.accounts.service.answers import Body, Refused, body_of, number
from app.accounts.service.orders import Address
from app.accounts.service.service import Service, caller, service_of
from app.accounts.service.signing_in import SigningIn
from app.accounts.service.tokens import READ, TRADE, Caller
from state.accounts.models import Agent, Deployment
from tasks.accounts.statement import statement
from venues.evm.contract_wallets import NOT_THERE_YET, confirms, is_contract
from venues.evm.rpc import EvmRpc
from venues.ostium.contracts import (
    APPROVE,
    LEVERAGE_PLACES,
    REMOVE_DELEGATE,
    SET_DELEGATE,
    USDC_PLACES,
    units,
)

router = APIRouter(prefix="/wallet", default_response_class=JSONResponse, include_in_schema=False)
CHAINS = {
    42_161: ("Arbitrum One", "https://arb1.arbitrum.io/rpc"),
    421_614: ("Arbitrum Sepolia", "https://sepolia-rollup.arbitrum.io/rpc"),
}
"""Of what a wallet is asked to add: name and a node that is everybody's. Our own node's address may hold a key."""
Usdc = Annotated[Decimal, Field(gt=0, le=MOST_COLLATERAL_USDC, decimal_places=USDC_PLACES)]


class WhoBody(Body):
    """A wallet that wants to sign in."""

    address: Address


class SignedBody(Body):
    """The text of this nonce, signed."""

    address: Address
    nonce: str = Field(max_length=64)
    signature: str = Field(max_length=8_000)


class DeployBody(Body):
    """Which agent trades, and the most of one trade."""

    agent: str = Field(max_length=100)
    collateral: Usdc
    leverage: Annotated[Decimal, Field(ge=1, le=MOST_LEVERAGE, decimal_places=LEVERAGE_PLACES)]


class DeploymentBody(Body):
    """One of the caller's deployments."""

    deployment: str = Field(max_length=200)


class CallsBody(DeploymentBody):
    """The caps of both allowances."""

    trades: Usdc
    share: Usdc


def signing_in(request: Request) -> SigningIn:
    """What the application keeps."""
    found: SigningIn = request.app.state.signing_in
    return found


@router.get("/terms")
async def terms(request: Request) -> JSONResponse:
    """The chain, the contracts and the agents' terms: nothing of a user's."""
    service = service_of(request)
    chain_id, contracts = service.settings.ostium.at.chain_id, service.venue.contracts
    name, node = CHAINS[chain_id]
    return JSONResponse(
        {
            "chain": {"id": chain_id, "name": name, "rpcUrl": node},
            "usdc": contracts.usdc,
            "storage": contracts.storage,
            "trading": contracts.trading,
            "collector": service.pulls.address,
            "markets": [one.replace("/", "-") for one in service.settings.ostium.markets.values()],
            "agents": {
                one.agent_id: {"key": one.key_address, "share": number(one.share)}
                for one in agents_of(service)
            },
        }
    )


def agents_of(service: Service) -> list[Agent]:
    """The agents who trade with this process's key: others are served by others."""
    return [one for one in service.store.accounts.agents() if one.key_address == service.venue.address]


@router.post("/challenge")
async def challenge(request: Request) -> JSONResponse:
    """A text that a wallet is to sign."""
    body, _ = await body_of(request, WhoBody)
    nonce, text = signing_in(request).text_for(body.address.lower())
    return JSONResponse({"nonce": nonce, "text": text})


@router.post("/session")
async def session(request: Request) -> JSONResponse:
    """A token for who signed it."""
    body, _ = await body_of(request, SignedBody)
    rpc = service_of(request).accounts_desk.where.rpc
    signed = (body.address.lower(), body.nonce, body.signature)
    row, token = await signing_in(request).session(*signed, partial(_confirmed_by_contract, rpc))
    return JSONResponse({"token": token, "expiresMs": row.expires_ms})


async def _confirmed_by_contract(rpc: EvmRpc, account: str, digest: bytes, signature: bytes) -> None:
    if not await is_contract(rpc, account):
        if signature.endswith(NOT_THERE_YET):
            raise Refused(
                401, f"{account} is not on this chain yet: make its first transaction, then sign in"
            )
        raise Refused(401, f"the signature is not of {account}")
    if not await confirms(rpc, account, digest, signature):
        raise Refused(401, f"{account} is a contract, and does not say that it signed (EIP-1271)")


@router.get("/deployments")
async def deployments(request: Request) -> JSONResponse:
    """The caller's deployments."""
    service, who = service_of(request), caller(request, READ)
    rows = service.store.accounts.deployments(account=_own(who))
    return JSONResponse({"deployments": [_deployment(one) for one in rows]})


@router.get("/statement")
async def own_statement(request: Request) -> JSONResponse:
    """What trades and shares changed in the caller's wallet."""
    service, who = service_of(request), caller(request, READ)
    return JSONResponse(statement(service.store, _own(who), service.settings.ostium.markets))


@router.post("/deployments")
async def deploy(request: Request) -> JSONResponse:
    """Let an agent trade for the caller, within limits, once the chain shows it. Later: other limits from now on."""
    body, _ = await body_of(request, DeployBody)
    service, who = service_of(request), caller(request, TRADE)
    if body.agent not in {one.agent_id for one in agents_of(service)}:
        raise Refused(404, "there is no such agent here")
    asked = Asked(body.collateral, body.leverage)
    row = store_deployment(service.settings, service.store, _own(who), body.agent, asked)
    return JSONResponse(_deployment(row))


@router.post("/check")
async def check(request: Request) -> JSONResponse:
    """Read a deployment on the chain, and activate it where nothing is missing."""
    body, _ = await body_of(request, DeploymentBody)
    service = service_of(request)
    row = _mine(service, caller(request, TRADE), body.deployment)
    if actions.is_held(service.store, row.deployment_id):
        raise Refused(409, "the operator has paused this deployment: ask him")
    found = await actions.check_on(service.accounts_desk, row.deployment_id)
    return JSONResponse(
        _deployment(service.store.accounts.deployment(row.deployment_id)) | {"missing": found["missing"]}
    )


@router.post("/pause")
async def pause(request: Request) -> JSONResponse:
    """Open nothing more for the caller."""
    body, _ = await body_of(request, DeploymentBody)
    service = service_of(request)
    row = _mine(service, caller(request, TRADE), body.deployment)
    return JSONResponse(
        _deployment(actions.pause_in(service.store, row.deployment_id, "asked for by the user"))
    )


@router.post("/calls")
async def calls(request: Request) -> JSONResponse:
    """Three calls for the caller's wallet to sign: USDC for trades, the delegate, USDC for the share."""
    body, _ = await body_of(request, CallsBody)
    service = service_of(request)
    row = _mine(service, caller(request, TRADE), body.deployment)
    agent, at = service.store.accounts.agent(row.agent_id), service.venue.contracts
    return JSONResponse(
        {
            "calls": [
                _call(at.usdc, APPROVE.call(at.storage, units(body.trades, USDC_PLACES))),
                _call(at.trading, SET_DELEGATE.call(agent.key_address)),
                _call(at.usdc, APPROVE.call(service.pulls.address, units(body.share, USDC_PLACES))),
            ]
        }
    )


@router.post("/revoking")
async def revoking(request: Request) -> JSONResponse:
    """Three calls that end all of it."""
    body, _ = await body_of(request, DeploymentBody)
    service = service_of(request)
    _mine(service, caller(request, TRADE), body.deployment)
    at = service.venue.contracts
    return JSONResponse(
        {
            "calls": [
                _call(at.trading, REMOVE_DELEGATE.call()),
                _call(at.usdc, APPROVE.call(at.storage, 0)),
                _call(at.usdc, APPROVE.call(service.pulls.address, 0)),
            ]
        }
    )


def _call(to: str, calldata: bytes) -> dict[str, str]:
    return {"to": to, "data": "0x" + calldata.hex(), "value": "0x0"}


def _own(who: Caller) -> str:
    if not who.account:
        raise Refused(403, f"token {who.token_id} is nobody's own: sign in with the wallet")
    return who.account


def _mine(service: Service, who: Caller, name: str) -> Deployment:
    for one in service.store.accounts.deployments(account=_own(who)):
        if one.deployment_id == name:
            return one
    raise Refused(404, "there is no such deployment of yours")


def _deployment(row: Deployment) -> dict[str, Any]:
    return {
        "deployment": row.deployment_id,
        "agent": row.agent_id,
        "state": row.state.value,
        "collateral": number(Decimal(str(row.limits["most_collateral_usdc"]))),
        "leverage": number(Decimal(str(row.limits["most_leverage"]))),
        "result": number(row.result_usdc),
    }
