"""The page's own modules in Node: which calls they know, what they refuse, and that the adapter's types name what it has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import app.accounts.service
from evenkeel.settings.accounts import NETWORKS
from venues.ostium.contracts import ALLOWANCE, APPROVE, BALANCE_OF, DELEGATIONS, REMOVE_DELEGATE, SET_DELEGATE

STATIC = Path(app.accounts.service.__file__).parent / "static"
NODE = shutil.which("node")
USDC, STORAGE, OTHER = "0x" + "11" * 20, "0x" + "22" * 20, "0x" + "33" * 20
WHOLE = {"to": USDC, "data": "0x" + APPROVE.call(STORAGE, 300_000_000).hex(), "value": "0x0"}
DELEGATE = {"to": OTHER, "data": "0x" + SET_DELEGATE.call(STORAGE).hex(), "value": "0x0"}
needs_node = pytest.mark.skipif(NODE is None, reason="no Node here: `apt-get install nodejs`")


def run(script: str, given: Any = None) -> Any:
    """What a module's text prints as JSON, with the page's modules beside it."""
    text = script.replace("@", STATIC.as_uri())
    done = subprocess.run(
        [str(NODE), "--input-type=module", "-e", text],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@needs_node
def test_the_page_knows_the_functions_and_the_contracts_that_the_product_does() -> None:
    found = run(
        "import { SELECTORS, KNOWN } from '@/calls.mjs'; console.log(JSON.stringify([SELECTORS, KNOWN]))"
    )
    ours = {
        f"{one.name}({','.join(one.takes)})": one.selector.hex()
        for one in (APPROVE, SET_DELEGATE, REMOVE_DELEGATE, BALANCE_OF, ALLOWANCE, DELEGATIONS)
    }
    network = NETWORKS["arbitrum"]
    known = {"usdc": network.usdc, "storage": network.storage, "trading": network.trading}
    assert found == [ours, {"42161": known}]


@needs_node
def test_a_call_that_differs_by_one_digit_is_not_signed() -> None:
    calls = [WHOLE, DELEGATE]
    for one in (WHOLE, DELEGATE):
        data = one["data"]
        calls += [
            one | {"data": data[:n] + ("0" if data[n] != "0" else "1") + data[n + 1 :]}
            for n in range(2, len(data))
        ]
        calls += [one | {"data": data + more} for more in ("0", "00", "00" * 32)] + [
            one | {"data": data[:-2]}
        ]
        calls += [one | {"value": "0x1"}, one | {"to": "0x" + "44" * 20}, one | {"to": "", "data": ""}]
    script = """
import { checked } from '@/calls.mjs';
import { readFileSync } from 'node:fs';
const [usdc, storage, other, calls] = JSON.parse(readFileSync(0));
const wanted = [
  { kind: 'approve', to: usdc, spender: storage, units: 300000000n },
  { kind: 'delegate', to: other, delegate: storage },
];
const passes = (call) => wanted.some((one) => { try { checked(call, one); return true; } catch { return false; } });
console.log(JSON.stringify(calls.map(passes)));
"""
    found = run(script, [USDC, STORAGE, OTHER, calls])
    assert found == [True, True] + [False] * (len(calls) - 2)


@needs_node
def test_amounts_are_read_to_the_unit_and_a_server_that_names_other_contracts_is_refused() -> None:
    script = """
import { checkTerms, unitsOf, usdcOf } from '@/calls.mjs';
const said = (doing) => { try { return String(doing()); } catch (fault) { return 'refused'; } };
const units = ['1', '0.000001', '1000000.5', '1e3', '-1', '1.0000001', 'NaN', ''].map((one) => said(() => unitsOf(one)));
const words = [1n, 1000000n, 1500000n, 0n].map(usdcOf);
const terms = said(() => checkTerms({ chain: { id: 42161 }, usdc: '0x' + '11'.repeat(20) }));
console.log(JSON.stringify([units, words, terms]));
"""
    units, words, terms = run(script)
    assert units == ["1000000", "1", "1000000500000", *["refused"] * 5]
    assert words == ["0.000001", "1", "1.5", "0"] and terms == "refused"


WALLET = """
import { findWallets, sent, switchTo, wordsOf } from '@/wallet.mjs';
const chain = { id: 5, name: 'Five', rpcUrl: 'http://five' };
const from = '0x' + 'ab'.repeat(20);
const said = async (doing) => { try { await doing(); return 'done'; } catch (fault) { return wordsOf(fault); } };
// A wallet that answers by method: a value, a function, or a fault that it throws.
function wallet(answers) {
  const asked = [];
  const request = async ({ method }) => {
    asked.push(method);
    const answer = answers[method];
    const found = typeof answer === 'function' ? answer(asked) : answer;
    if (found && found.fault) { throw Object.assign(new Error('no'), found.fault); }
    return found;
  };
  return { asked, request };
}
"""


@needs_node
@pytest.mark.parametrize(
    ("fault", "adds"),
    [
        ({"code": 4902}, True),
        ({"code": -32603, "data": {"originalError": {"code": 4902}}}, True),
        ({"code": -32601}, True),
        ({}, True),
        ({"code": 4001}, False),
        ({"code": -32603, "data": {"originalError": {"code": 4001}}}, False),
    ],
)
def test_a_chain_that_a_wallet_does_not_know_is_added_however_it_says_so(
    fault: dict[str, Any], adds: bool
) -> None:
    """MetaMask's phone application and others say it by other numbers than the standard's, or by none."""
    script = """
import { readFileSync } from 'node:fs';
const fault = JSON.parse(readFileSync(0));
const one = wallet({
  eth_chainId: (asked) => asked.includes('wallet_addEthereumChain') ? '0x5' : '0x1',
  wallet_switchEthereumChain: { fault }, wallet_addEthereumChain: null,
});
const words = await said(() => switchTo(one, chain));
console.log(JSON.stringify([words, one.asked.includes('wallet_addEthereumChain')]));
"""
    words, added = run(WALLET + script, fault)
    assert added is adds
    assert words == ("done" if adds else "You refused it in your wallet. Nothing was signed.")


@needs_node
def test_a_call_is_done_once_it_stands_on_the_chain_and_a_locked_wallet_signs_nothing() -> None:
    """A transaction that the wallet sends anew for a higher fee has another hash; that of a contract's wallet is none."""
    script = """
const asks = { eth_chainId: '0x5', eth_sendTransaction: '0xaa', eth_getTransactionReceipt: null };
let polls = 0;
const replaced = await said(() => sent(wallet({ ...asks, eth_accounts: [from.toUpperCase().replace('0X', '0x')] }),
  from, chain, {}, async () => { polls += 1; return polls > 2; }));
const refused = await said(() => sent(wallet({ ...asks, eth_accounts: [from], eth_getTransactionReceipt: { status: '0x0' } }),
  from, chain, {}, async () => false));
const locked = wallet({ ...asks, eth_accounts: [] });
const other = wallet({ ...asks, eth_accounts: ['0x' + '12'.repeat(20)] });
const words = [await said(() => sent(locked, from, chain, {}, async () => false)),
  await said(() => sent(other, from, chain, {}, async () => false))];
const signed = [locked, other].some((one) => one.asked.includes('eth_sendTransaction'));
console.log(JSON.stringify([replaced, refused, words, signed]));
"""
    replaced, refused, (locked, other), signed = run(WALLET + script)
    assert (replaced, signed) == ("done", False)
    assert refused == "The chain refused the transaction 0xaa."
    assert "locked" in locked and "switch back" in other


@needs_node
def test_a_wallet_that_announces_itself_twice_is_offered_once() -> None:
    script = """
const window = globalThis.window = new EventTarget();
window.ethereum = { request() {} };
const offered = [];
findWallets((one) => offered.push(one.name));
const announce = (info, provider) => window.dispatchEvent(
  Object.assign(new Event('eip6963:announceProvider'), { detail: { info, provider } }));
const two = {};
announce({ uuid: '1', rdns: 'io.one', name: 'One' }, window.ethereum);
announce({ uuid: '2', rdns: 'io.two', name: 'Two' }, two);
announce({ uuid: '2', rdns: 'io.two', name: 'Two' }, two);
announce({ uuid: '3', rdns: 'io.two', name: 'Two' }, {});
announce({ uuid: '4', rdns: 'io.four', name: 'Four' }, {});
console.log(JSON.stringify(offered));
"""
    assert run(WALLET + script) == ["Wallet of this browser", "Two", "Four"]


def test_the_adapters_types_name_what_it_exports() -> None:
    named = r"^export (?:async )?(?:class|function) (\w+)"
    made = re.findall(named, (STATIC / "ostium-adapter.mjs").read_text(), re.MULTILINE)
    typed = re.findall(named, (STATIC / "ostium-adapter.d.mts").read_text(), re.MULTILINE)
    assert sorted(made) == sorted(typed)
    assert {"openOstiumPosition", "closeOstiumPosition", "getOstiumPositions", "getOstiumBalance"} < set(made)
