"""The page of managed accounts in a browser, in front of a wallet that really signs, driven by the keyboard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct

from tests.browser import Tab, chromium, until
from tests.evm_rig import CHAIN_ID, MILLION
from tests.service_rig import ServiceRig, service_rig

INJECTED = """
(() => {
  let next = 0;
  const waiting = new Map();
  window.walletAnswers = (id, answer) => {
    const [good, bad] = waiting.get(id);
    waiting.delete(id);
    if (answer.error) { bad(Object.assign(new Error(answer.error.message), { code: answer.error.code })); }
    else { good(answer.result); }
  };
  const provider = {
    on() {},
    request(asked) {
      return new Promise((good, bad) => {
        next += 1;
        waiting.set(next, [good, bad]);
        window.walletAsks(JSON.stringify({ id: next, ...asked }));
      });
    },
  };
  const detail = Object.freeze({ info: { uuid: "1", name: "Test wallet", icon: "data:,", rdns: "x.y" }, provider });
  window.addEventListener("eip6963:requestProvider",
    () => window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail })));
})();
"""


@dataclass
class Wallet:
    """A user's wallet behind the provider of a page: it has the key, signs what it is asked for, and can refuse."""

    rig: ServiceRig
    tab: Tab
    account: Any
    chain_id: int = 1
    refuses: bool = False
    signed: list[str] = field(default_factory=list)

    async def answer(self, payload: str) -> None:
        asked = json.loads(payload)
        try:
            async with self.rig.rig.evm.twin._mining:  # one block after the other
                answer = {"result": self.do(asked["method"], asked.get("params", []))}
        except PermissionError:
            answer = {"error": {"code": 4001, "message": "User rejected the request."}}
        await self.tab.evaluate(f"walletAnswers({asked['id']}, {json.dumps(answer)})")

    def do(self, method: str, params: list[Any]) -> Any:
        node = self.rig.rig.evm.twin.node
        if method in ("eth_requestAccounts", "eth_accounts"):
            return [self.account.address]
        if method == "eth_chainId":
            return hex(self.chain_id)
        if method == "wallet_switchEthereumChain":
            self.chain_id = int(params[0]["chainId"], 16)
            return None
        if method in ("personal_sign", "eth_sendTransaction") and self.refuses:
            raise PermissionError
        if method == "personal_sign":
            text = encode_defunct(hexstr=params[0])
            self.signed.append("text")
            return "0x" + bytes(self.account.sign_message(text).signature).hex()
        if method == "eth_sendTransaction":
            assert self.chain_id == CHAIN_ID
            call = params[0]
            assert call["from"] == self.account.address.lower() and call["value"] == "0x0"
            self.signed.append(call["data"][:10])
            nonce = int(node.rpc("eth_getTransactionCount", self.account.address, "latest"), 16)
            whole = {"to": bytes.fromhex(call["to"][2:]), "data": call["data"], "nonce": nonce, "value": 0}
            whole |= {"gas": 500_000, "maxFeePerGas": 10**9, "maxPriorityFeePerGas": 0}
            raw = self.account.sign_transaction(whole | {"chainId": CHAIN_ID, "type": 2}).raw_transaction
            sent = node.rpc("eth_sendRawTransaction", "0x" + bytes(raw).hex())
            node.rpc("evm_mine")
            return sent
        assert method in ("eth_call", "eth_getTransactionReceipt"), method
        return node.rpc(method, *params)


@asynccontextmanager
async def on_page(folder: Path) -> AsyncIterator[tuple[ServiceRig, Wallet, Tab]]:
    """The page in a browser whose wallet holds 1,000 USDC and has agreed to nothing."""
    async with service_rig(folder) as rig, chromium() as tab:
        account = Account.create()
        evm = rig.rig.evm
        evm.transact(evm.issuer, evm.usdc, "mint(address,uint256)", account.address, 1_000 * MILLION)
        evm.twin.node.rpc("anvil_setBalance", account.address, hex(10**18))
        evm.users.append(account.address.lower())  # the keeper settles his orders too
        wallet, answering = Wallet(rig, tab, account), set[asyncio.Task[None]]()
        tab.called["walletAsks"] = lambda payload: answering.add(asyncio.create_task(wallet.answer(payload)))
        await tab.call("Runtime.addBinding", name="walletAsks")
        await tab.call("Page.addScriptToEvaluateOnNewDocument", source=INJECTED)
        yield rig, wallet, tab


async def press(tab: Tab, find: str) -> None:
    """Go to a button by the keyboard and press Enter on it."""
    await until(lambda: tab.evaluate(f"Boolean({find}) && {find}.offsetParent !== null"), f"there is {find}")
    await tab.evaluate(f"{find}.focus()")
    assert await tab.evaluate(f"document.activeElement === {find}"), "it takes the focus"
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if kind == "keyDown" else {}
        await tab.call(
            "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, **text
        )


def button(name: str) -> str:
    return f"[...document.querySelectorAll('button')].find(one => one.textContent === {json.dumps(name)} && one.offsetParent)"


async def said(tab: Tab, text: str) -> None:
    script = "document.getElementById('says').textContent"
    await until(
        lambda: tab.evaluate(f"{script}.includes({json.dumps(text)})"),
        f"the page says {text!r}; it says {await tab.evaluate(script)!r}",
    )
