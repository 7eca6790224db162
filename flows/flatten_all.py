"""The kill switch from the Prefect UI: the same as `evenkeel flatten --all`, which needs no Prefect and is the surer way."""

from __future__ import annotations

import asyncio

from prefect import flow
from pydantic import Field

from evenkeel.errors import OperatorError
from flows.accounts.flatten import flatten_accounts
from flows.carry.flatten import WITHIN_S, Flattened
from flows.carry.flatten import flatten as flatten_carry
from flows.forms import Form
from flows.pausing import require_word
from flows.running import run_name, settings_for_run

FLATTEN = "FLATTEN"


class FlattenRequest(Form):
    """Everything is paused, then every position and every trade for a user is closed, again and again until none is left."""

    confirm: str = Field(default="", description=f"type {FLATTEN}: every position is closed at once")
    reason: str = Field(default="", description="kept with every position")
    one_leg: bool = Field(
        default=False, description="close what can be closed, though the other leg is left alone"
    )
    within_s: float = Field(default=WITHIN_S, gt=0, le=3600, description="seconds to go on trying")


@flow(name="flatten", flow_run_name="flatten")
async def flatten(request: FlattenRequest) -> Flattened:
    """Close everything. The run fails where something is still held."""
    require_word("confirm", request.confirm, FLATTEN, "close every position")
    with settings_for_run(in_time=True) as settings:
        reason = f"{request.reason.strip() or 'no reason given'} ({run_name()})"
        done, accounts = await asyncio.gather(
            flatten_carry(settings, reason, request.within_s, one_leg=request.one_leg),
            flatten_accounts(settings, reason, request.within_s),
            return_exceptions=True,  # what fails of one business must not break off the other
        )
    if isinstance(done, BaseException):
        raise done
    if isinstance(accounts, BaseException):
        raise accounts
    done = done.model_copy(
        update={
            "flat": done.flat and accounts.flat,
            "positions": done.positions | accounts.trades,
            "left": done.left + accounts.left,
        }
    )
    if not done.flat:
        raise OperatorError(
            f"still held: {'; '.join(done.left)}; start it again, or run `evenkeel flatten --all`, until nothing is left"
        )
    return done
