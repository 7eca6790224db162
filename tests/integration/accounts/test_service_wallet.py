"""A wallet signs in by its own signature alone, and may do with its own deployments what its owner may, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct

from app.accounts import actions
from app.accounts.service.signing_in import digest_of
from state.accounts.models import DeploymentState
from tests.accounts_rig import AGENT
from tests.service_rig import ServiceRig, service_rig
from venues.evm.contract_wallets import IS_VALID_SIGNATURE, OF_A_KEY
from venues.ostium.contracts import APPROVE, SET_DELEGATE
from venues.signers.local import LocalEvmKey


async def _challenge(rig: ServiceRig, address: str) -> dict[str, Any]:
    found: dict[str, Any] = (await rig.post("/wallet/challenge", {"address": address}, None)).json()
    return found


def _signed(wallet: Any, text: str) -> str:
    return "0x" + bytes(wallet.sign_message(encode_defunct(text=text)).signature).hex()


async def test_who_signs_in_is_who_he_says_and_once(tmp_path: Path) -> None:
    async with service_rig(tmp_path) as rig:
        wallet, other = Account.create(), Account.create()
        given = await _challenge(rig, wallet.address)
        assert given["text"].startswith(rig.address.removeprefix("http://") + " wants you to sign in")
        assert f"account:\n{wallet.address}\n" in given["text"] and "Chain ID: 421614" in given["text"]
        body = {"address": wallet.address, "nonce": given["nonce"]}
        for wrong in (_signed(other, given["text"]), _signed(wallet, "another text"), "0x12", "nonsense"):
            again = await _challenge(rig, wallet.address)
            refused = await rig.post(
                "/wallet/session", body | {"nonce": again["nonce"], "signature": wrong}, None
            )
            assert refused.status_code == 401 and "signature is not" in refused.json()["error"]
        signature = _signed(wallet, given["text"])
        stolen = await rig.post(
            "/wallet/session", body | {"address": other.address, "signature": signature}, None
        )
        assert stolen.status_code == 401
        late = await rig.post("/wallet/session", body | {"signature": signature}, None)
        assert late.status_code == 401 and "was used" in late.json()["error"], "one try a text"
        given = await _challenge(rig, wallet.address)
        body = {
            "address": wallet.address,
            "nonce": given["nonce"],
            "signature": _signed(wallet, given["text"]),
        }
        token = (await rig.post("/wallet/session", body, None)).json()["token"]
        assert (await rig.get("/wallet/deployments", token)).json() == {"deployments": []}
        assert (await rig.post("/transfer", {"charge": "x"}, token=token)).status_code == 403
        assert (await rig.post("/wallet/session", body, None)).status_code == 401


def contract_wallet(rig: ServiceRig, text: str) -> str:
    """A wallet that is a contract, and says (EIP-1271) that it signed this text and nothing else: it reverts for any other."""
    magic = IS_VALID_SIGNATURE.selector.ljust(32, b"\0")
    code = bytes.fromhex("60005460043514600f5760006000fd5b7f") + magic + bytes.fromhex("60005260206000f3")
    at, node = "0x" + "5a" * 20, rig.rig.evm.twin.node
    node.rpc("anvil_setCode", at, "0x" + code.hex())
    node.rpc("anvil_setStorageAt", at, "0x" + "0" * 64, "0x" + digest_of(text).hex())
    return at


async def test_a_wallet_that_is_a_contract_signs_in_by_its_own_word(tmp_path: Path) -> None:
    async with service_rig(tmp_path) as rig:
        at = "0x" + "5a" * 20
        given = await _challenge(rig, at)
        body = {"address": at, "nonce": given["nonce"], "signature": "0x" + "ab" * 300}
        away = await rig.post("/wallet/session", body, None)
        assert away.status_code == 401 and f"the signature is not of {at}" in away.json()["error"]
        given = await _challenge(rig, at)
        later = await rig.post(
            "/wallet/session", body | {"nonce": given["nonce"], "signature": "0x" + "6492" * 16}, None
        )
        assert later.status_code == 401 and "not on this chain yet" in later.json()["error"]
        given = await _challenge(rig, at)
        assert contract_wallet(rig, "another text") == at
        refused = await rig.post("/wallet/session", body | {"nonce": given["nonce"]}, None)
        assert refused.status_code == 401 and "does not say that it signed" in refused.json()["error"]
        given = await _challenge(rig, at)
        contract_wallet(rig, given["text"])
        signed = await rig.post("/wallet/session", body | {"nonce": given["nonce"], "signature": "0x"}, None)
        assert signed.status_code == 200, "some have it on the chain, and give an empty signature"
        token = signed.json()["token"]
        assert (await rig.get("/wallet/deployments", token)).json() == {"deployments": []}
        again = await rig.post("/wallet/session", body | {"nonce": given["nonce"]}, None)
        assert again.status_code == 401, "one try a text"
        # A key whose account runs a contract's code (EIP-7702) signs as ever, and as nobody else.
        wallet = Account.create()
        code = "0x" + (OF_A_KEY + bytes.fromhex(at[2:])).hex()
        rig.rig.evm.twin.node.rpc("anvil_setCode", wallet.address, code)
        given = await _challenge(rig, wallet.address)
        own = {"address": wallet.address, "nonce": given["nonce"]}
        contract_wallet(rig, given["text"])
        foreign = await rig.post("/wallet/session", own | {"signature": "0x" + "ab" * 65}, None)
        assert foreign.status_code == 401
        given = await _challenge(rig, wallet.address)
        own = {
            "address": wallet.address,
            "nonce": given["nonce"],
            "signature": _signed(wallet, given["text"]),
        }
        assert (await rig.post("/wallet/session", own, None)).status_code == 200


async def test_an_owner_sets_limits_and_pauses_and_cannot_start_what_the_operator_paused(
    tmp_path: Path,
) -> None:
    async with service_rig(tmp_path) as rig:
        accounts, agent = rig.store.accounts, LocalEvmKey.from_hex(AGENT).address
        terms = (await rig.http.get("/wallet/terms")).json()
        assert terms["agents"] == {"trend": {"key": agent, "share": 0.1}} and terms["chain"]["id"] == 421_614
        assert "rpc_url" not in terms and rig.settings.ostium.rpc_url not in str(terms)
        name = {"deployment": "d0"}
        limits = {"agent": "trend", "collateral": "80", "leverage": 2}
        found = (await rig.post("/wallet/deployments", limits, None, rig.of_user)).json()
        assert (found["deployment"], found["collateral"], found["leverage"]) == ("d0", 80, 2)
        big = {"address": rig.user, "market": "SOL", "side": "long", "collateral": 81, "slippageBps": 100}
        refused = await rig.post("/open-position", big)
        assert refused.status_code == 422 and "allowed is 80" in refused.json()["error"]
        calls = await rig.post("/wallet/calls", name | {"trades": "12.5", "share": 1}, None, rig.of_user)
        whole = [one["data"] for one in calls.json()["calls"]]
        assert whole[0] == "0x" + APPROVE.call(terms["storage"], 12_500_000).hex()
        assert whole[1] == "0x" + SET_DELEGATE.call(agent).hex()
        assert whole[2] == "0x" + APPROVE.call(terms["collector"], 1_000_000).hex()
        assert (await rig.post("/wallet/pause", name, None, rig.of_user)).json()["state"] == "PAUSED"
        assert (await rig.post("/wallet/check", name, None, rig.of_user)).json()["state"] == "ACTIVE"
        # Whatever he does in between, the operator's pause stays his.
        await rig.post("/wallet/pause", name, None, rig.of_user)
        await actions.pause(rig.settings, "d0")
        await rig.post("/wallet/deployments", limits | {"leverage": 3}, None, rig.of_user)
        for to in (DeploymentState.REVOKED, DeploymentState.PAUSED):
            accounts.move_deployment("d0", to, "by the chain")
        held = await rig.post("/wallet/check", name, None, rig.of_user)
        assert held.status_code == 409 and "operator" in held.json()["error"]
        assert accounts.deployment("d0").state is DeploymentState.PAUSED
        assert (await actions.check(rig.settings, "d0"))["state"] == "ACTIVE"
        assert (await rig.post("/wallet/check", name, None, rig.of_user)).json()["state"] == "ACTIVE"
        for path in ("/wallet/pause", "/wallet/check", "/wallet/revoking"):
            assert (await rig.post(path, {"deployment": "d1"}, None, rig.of_user)).status_code == 404
            assert (await rig.post(path, name, None)).status_code == 403, "everybody's token is no wallet's"
        assert accounts.deployment("d1").state is DeploymentState.ACTIVE
        unknown = await rig.post("/wallet/deployments", limits | {"agent": "x"}, None, rig.of_user)
        assert unknown.status_code == 404
