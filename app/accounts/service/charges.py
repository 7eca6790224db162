"""What the service does with a charge that is due: it is pulled, once; the amount and the wallet are the ledger's."""

from __future__ import annotations

from pydantic import Field

from app.accounts.service.answers import Answer, Body, Refused, number
from app.accounts.service.orders import AGAIN_S, not_yet
from app.accounts.service.service import Service, Work
from app.accounts.service.tokens import Caller
from evenkeel.errors import LostRace
from strategy.accounts.share import ChargeState
from tasks.accounts import trading
from tasks.intents import Done, Ending, NotDone, StillUnknown


class TransferBody(Body):
    """A charge that is due. Its amount and where it goes are the ledger's."""

    charge: str = Field(max_length=200)


async def prepare_transfer(service: Service, who: Caller, body: TransferBody, key: str) -> Work:
    """The charge that is pulled."""
    charges = service.store.accounts.charges(account=who.account or None)
    found = next((one for one in charges if one.charge_id == body.charge), None)
    if found is None:
        raise Refused(404, "there is no such charge of yours")
    if found.state not in (ChargeState.DUE, ChargeState.OUTSTANDING):
        raise Refused(409, f"charge {found.charge_id} is {found.state}: nothing is pulled for it")
    return {"charge": found.charge_id}


async def do_transfer(service: Service, work: Work) -> Answer:
    """Pull it, or go on with it."""
    name = str(work["charge"])
    async with service.alone("charge", name):
        end = await _pulled(service, name)
    [row] = [one for one in service.store.accounts.charges() if one.charge_id == name]
    result = {
        "charge": name,
        "amount": number(row.usdc),
        "asset": "USDC",
        "fromAddress": row.account,
        "toAddress": service.settings.collector.platform_wallet,
        "state": row.state,
        "transaction": row.transaction,
    }
    if row.state == ChargeState.COLLECTED:
        return Answer(200, {"success": True, "result": result})
    return not_yet(end, result)


async def _pulled(service: Service, name: str) -> Ending:
    until_ms = service.desk.clock.now_ms() + int(service.settings.service.wait_s * 1000)
    while True:
        try:
            end = await trading.collect(service.desk, name)
            if isinstance(end, Done | NotDone):
                return end
        except LostRace as other:
            end = StillUnknown(str(other))
            [row] = [one for one in service.store.accounts.charges() if one.charge_id == name]
            if row.state not in (ChargeState.DUE, ChargeState.OUTSTANDING):
                return end
        if service.desk.clock.now_ms() >= until_ms:
            return end
        await service.desk.clock.sleep(AGAIN_S)
