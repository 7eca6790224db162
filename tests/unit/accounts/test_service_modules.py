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


def test_the_adapters_types_name_what_it_exports() -> None:
    named = r"^export (?:async )?(?:class|function) (\w+)"
    made = re.findall(named, (STATIC / "ostium-adapter.mjs").read_text(), re.MULTILINE)
    typed = re.findall(named, (STATIC / "ostium-adapter.d.mts").read_text(), re.MULTILINE)
    assert sorted(made) == sorted(typed)
    assert {"openOstiumPosition", "closeOstiumPosition", "getOstiumPositions", "getOstiumBalance"} < set(made)
