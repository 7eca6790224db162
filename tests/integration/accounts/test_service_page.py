"""The page for users in a real browser, with a wallet that really signs, at two widths, by the keyboard."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from state.accounts.models import DeploymentState
from tests.accounts_rig import AGENT
from tests.browser import CHROMIUM
from tests.evm_rig import CHAIN_ID, MILLION
from tests.wallet_rig import button, on_page, press, said
from venues.signers.local import LocalEvmKey

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: `apt-get install chromium`"),
    pytest.mark.timeout(900),
]


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 800)])
async def test_a_user_connects_refuses_signs_opens_sees_his_trade_and_revokes(
    width: int, height: int, tmp_path: Path
) -> None:
    async with on_page(tmp_path) as (rig, wallet, tab):
        accounts, own = rig.store.accounts, wallet.account.address.lower()
        await tab.size(width, height, phone=width < 500)
        await tab.open(rig.address + "/")
        assert "trend" in await tab.evaluate("document.querySelector('article').textContent")
        wallet.refuses = True
        await press(tab, button("Connect Test wallet"))
        await said(tab, "You refused it in your wallet")
        wallet.refuses = False
        await press(tab, button("Connect Test wallet"))
        await said(tab, "Connected.")
        assert wallet.chain_id == CHAIN_ID, "the page had the wallet switch"
        assert await tab.evaluate("document.getElementById('balance').textContent") == "1000 USDC"
        await press(tab, button("Choose trend"))
        await said(tab, "Stored.")
        [mine] = [one for one in accounts.deployments() if one.account == own]
        assert mine.state is DeploymentState.PAUSED
        wallet.refuses = True
        await press(tab, button("Sign step 1"))
        await said(tab, "You refused it in your wallet")
        wallet.refuses = False
        for place in (1, 2, 3):
            await press(tab, button(f"Sign step {place}"))
            await said(tab, f"Step {place} is signed" if place < 3 else "The agent trades for you now")
            done = f"document.getElementById('step-{place - 1}').classList.contains('done')"
            assert await tab.evaluate(done)
        assert accounts.deployment(mine.deployment_id).state is DeploymentState.ACTIVE
        assert rig.rig.venue.read("trading", "delegations", own) == LocalEvmKey.from_hex(AGENT).address
        await press(tab, button("Open"))
        await said(tab, "Opened: SOL-USD long.")
        assert "OPEN" in await tab.evaluate("document.getElementById('trades').textContent")
        assert rig.rig.evm.balance(own) == 950 * MILLION
        wide = await tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
        await tab.evaluate(
            "(() => { const form = document.getElementById('open-form');"
            " form.orderType.value = 'limit'; form.price.value = '140'; })()"
        )
        await press(tab, button("Open"))
        await said(tab, "Placed: it waits for 140.")
        assert "limit, waits for 140" in await tab.evaluate("document.getElementById('trades').textContent")
        await press(tab, button("Cancel SOL-USD"))
        await said(tab, "Cancelled: the venue kept 0.1 USDC.")
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        await press(tab, button("Pause"))
        await said(tab, "Paused")
        assert accounts.deployment(mine.deployment_id).state is DeploymentState.PAUSED
        await press(tab, button("Check and start"))
        await said(tab, "The agent trades for you now")
        await press(tab, button("Close SOL-USD"))
        await said(tab, "Closed with")
        await press(tab, button("Show it as of now"))
        await said(tab, "The statement has 4 lines.")
        changed = Decimal(rig.rig.evm.balance(own) - 1_000 * MILLION) / MILLION
        assert f"In all {changed} USDC" in await tab.evaluate("document.body.textContent")
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        await press(tab, button("Revoke all"))
        await said(tab, "Revoked")
        assert accounts.deployment(mine.deployment_id).state is DeploymentState.REVOKED
        assert int(rig.rig.venue.read("trading", "delegations", own), 16) == 0
        assert len(wallet.signed) == 1 + 3 + 3 and wallet.signed[0] == "text"
        assert tab.complaints == []


async def test_a_call_that_is_not_what_was_agreed_is_never_given_to_the_wallet(tmp_path: Path) -> None:
    """A server that prepares another call than its words say."""
    async with on_page(tmp_path) as (rig, wallet, tab):
        await tab.size(1280, 800)
        await tab.open(rig.address + "/")
        await press(tab, button("Connect Test wallet"))
        await said(tab, "Connected.")
        await press(tab, button("Choose trend"))
        await said(tab, "Stored.")
        await tab.evaluate(
            "(() => { const real = window.fetch; window.fetch = async (path, given) => {"
            " const answer = await real(path, given); if (path !== '/wallet/calls') return answer;"
            " const body = await answer.json(); body.calls[0].data = body.calls[0].data.slice(0, 74) + 'f'.repeat(64);"
            " body.calls[1].data = body.calls[1].data.slice(0, 34) + 'ee'.repeat(20);"
            " body.calls[2].to = body.calls[1].to; return new Response(JSON.stringify(body)); }; })()"
        )
        for place, says in ((1, "units"), (2, "delegate"), (3, "to")):
            await press(tab, button(f"Sign step {place}"))
            await said(tab, f"The call's {says} is")
        assert wallet.signed == ["text"]
