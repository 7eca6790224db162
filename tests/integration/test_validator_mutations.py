"""Thousands of bent builds: a verdict each, never a crash, and never an approval of one that moves value out.

`EVENKEEL_MUTATIONS` sets how many (1,500 here, 100,000 in the long run), `EVENKEEL_SEED` which.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

from tests.attacks.audit import Auditor
from tests.attacks.mutations import Build, LiveAccounts, Mutator, decoded, foreign_keys
from tests.attacks.programs import Permissive
from tests.attacks.scene import SOL, Scene, scene
from twins.asgard import instructions as ix
from twins.asgard.lenders import LENDERS
from twins.asgard.routing import FORMS
from twins.asgard.venue import (
    JUPITER,
    KAMINO,
    SYSTEM_PROGRAM,
    TIP_ACCOUNTS,
    TOKEN_PROGRAM,
    USDC,
    USDC_MINT,
    WSOL_MINT,
)
from twins.asgard.venue import SOL as TWIN_SOL
from twins.clock import TwinClock
from venues.asgard.orders import (
    AddCollateral,
    AsgardOrder,
    Deleverage,
    IncreaseLeverage,
    PartialClose,
    RepayDebt,
)
from venues.solana.rules.approval import Refused
from venues.solana.rules.common import Expectation
from venues.solana.rules.validator import NOT_UNDERSTOOD, Verdict, judge
from venues.solana.view import ChainView

HOW_MANY = int(os.environ.get("EVENKEEL_MUTATIONS", "1500"))
SEED = int(os.environ.get("EVENKEEL_SEED", "20261120"))


async def corpus(s: Scene) -> tuple[list[tuple[str, Build, Expectation]], Permissive]:
    """Honest builds of every kind, each approved as it stands, with the positions that they are about."""
    found: list[tuple[str, Build, Expectation]] = []
    world = Permissive(s.chain)
    s.chain.set_token_balance(s.wallet, WSOL_MINT, 0)

    async def add(name: str, order: AsgardOrder) -> None:
        found.append((name, decoded(await s.build(order)), await s.expect(order)))

    lenders = {1: "kamino", 0: "marginfi", 2: "save"}
    positions = {protocol: await s.open(protocol, collateral_usdc="1500") for protocol in lenders}
    # From here on the world stands still: a blockhash that died would let nothing run.
    s.world.clock = TwinClock(s.world.now_ms(), speed=0, stepped=True)
    for protocol, lender in lenders.items():
        pda = positions[protocol]
        await add(f"{lender} open", await s.open_order(protocol))
        await add(f"{lender} close", s.close_order(pda, protocol))
        if protocol == 1:
            at: dict[str, Any] = {"asset": "SOL", "protocol": 1, "position_pda": pda}
            await add("partial close", PartialClose(close_percentage=40, **at))
            await add("deleverage", Deleverage(target_leverage="2", **at))
            await add("increase leverage", IncreaseLeverage(target_leverage="3.4", **at))
            await add("add collateral", AddCollateral(collateral_usdc="500", **at))
            await add("repay debt", RepayDebt(repay_usdc="200", **at))
            for form in FORMS:
                s.twin.control("routes", {"form": form, "exchanges": ["HumidiFi"]})
                await add(f"close by {form}", s.close_order(pda, protocol))
            for form in ("route", "shared_accounts_route", "route_v2"):
                s.twin.control("routes", {"form": form, "raw": {"kind": 220, "arguments": "01"}})
                await add(f"close by {form} through what nobody knows", s.close_order(pda, protocol))
            s.twin.control("routes", {"form": "route", "exchanges": ["Whirlpool"]})
            s.twin.control("tx_count", {"n": 2})
            await add("open in two", await s.open_order(protocol))
            s.twin.control("tx_count", {"n": 1})
    s.chain.set_token_balance(s.wallet, WSOL_MINT, 2 * SOL)
    for _, _, expectation in found:
        if expectation.position is not None:
            world.held[expectation.position, WSOL_MINT] = 22 * SOL
            world.debts[expectation.position] = 3_000 * 10**6
    world.brought = {(s.wallet, WSOL_MINT): 24 * SOL, (s.wallet, USDC_MINT): 20_000 * 10**6}
    return found, world


async def implied(s: Scene, pda: str) -> dict[Pubkey, dict[str, tuple[int, int]]]:
    """What the two smaller ways out of the corpus may do to the position, by arithmetic of its own."""
    [live] = (await s.venue.client.refresh([(1, pda)])).values()
    collateral, debt = live.collateral(), live.debt()
    assert collateral is not None and debt is not None
    tokens, owed = collateral.assets, debt.liabs
    assets = tokens * 200
    wanted = assets - 2 * (assets - owed)  # the sale that brings leverage to 2 at no cost
    most = (wanted / (1 - 2 * Decimal("0.04")) + assets * Decimal("0.021")) / 200
    return {
        Pubkey.from_string(pda): {
            "partial_close": (int(tokens * Decimal("0.401") * SOL), int(owed * Decimal("0.399") * 10**6)),
            "deleverage": (int(most * SOL), int((wanted - assets * Decimal("0.021")) * 10**6)),
        }
    }


@pytest.mark.timeout(max(600, HOW_MANY // 50))
async def test_bent_builds_are_judged_and_none_that_moves_value_out_is_approved() -> None:
    async with scene() as s:
        found, world = await corpus(s)
        accounts = LiveAccounts(s.chain)
        rents = {size: s.chain.svm.minimum_balance_for_rent_exemption(size) for size in (165, 1300)}
        view = ChainView(accounts, rents)
        for name, build, expectation in found:
            verdict = judge(build, expectation, view, s.rules)
            assert isinstance(verdict, Verdict), (name, verdict)
        world.install()
        [pda] = {str(one.position) for name, _, one in found if name == "partial close"}
        auditor = Auditor(s, world, allowed=await implied(s, pda))
        for name, build, expectation in found:
            assert auditor.harm(build, expectation) is None, name
        assert auditor.executed >= len(found), "the honest builds do not all run on permissive programs"
        rng = random.Random(SEED)
        mutator = Mutator(rng, foreign_keys(s), [build[0] for _, build, _ in found])
        accounts = LiveAccounts(s.chain)
        view = ChainView(accounts, rents)
        rules: Counter[str] = Counter()
        ran = 0
        for number in range(HOW_MANY):
            name, build, expectation = rng.choice(found)
            bent = mutator.mutated(build)
            verdict = judge(bent, expectation, view, s.rules)
            if isinstance(verdict, Refused):
                assert verdict.rule != NOT_UNDERSTOOD, (number, name, verdict, [one.hex() for one in bent])
                rules[verdict.rule] += 1
                continue
            rules["approved"] += 1
            assert [one.unsigned for one in verdict.approved] == bent
            harm = auditor.harm(bent, expectation)
            ran += 1
            assert harm is None, (number, name, harm, [one.hex() for one in bent])
        assert sum(rules.values()) == HOW_MANY
        assert ran > HOW_MANY // 50 and auditor.executed > ran // 2 and len(rules) >= 15, (
            rules,
            auditor.executed,
        )
        if os.environ.get("EVENKEEL_MUTATIONS"):
            print(f"\n{HOW_MANY} builds, seed {SEED}, {auditor.executed} executed: {rules.most_common()}")


async def test_the_auditor_sees_every_kind_of_loss() -> None:
    """What it would let pass, the test above could not find."""
    async with scene() as s:
        s.chain.set_token_balance(s.wallet, WSOL_MINT, 10 * SOL)
        world = Permissive(s.chain)
        world.install()
        auditor = Auditor(s, world)
        attacker = s.attacker.pubkey()
        own, theirs = (get_associated_token_address(one, USDC_MINT) for one in (s.wallet, attacker))
        lender = LENDERS[KAMINO.id]
        pda = lender.pda(attacker, TWIN_SOL, 7)
        world.owners[pda] = attacker
        signer = AccountMeta(s.wallet, True, False)
        mine = AccountMeta(own, False, True)
        losses = [
            ix.lamport_transfer(s.wallet, attacker, 1),
            ix.lamport_transfer(s.wallet, TIP_ACCOUNTS[0], SOL),
            Instruction(
                SYSTEM_PROGRAM, b"\x01\0\0\0" + bytes(TOKEN_PROGRAM), [AccountMeta(s.wallet, True, True)]
            ),
            Instruction(
                TOKEN_PROGRAM,
                b"\x03" + bytes([1]) + bytes(7),
                [mine, AccountMeta(theirs, False, True), signer],
            ),
            Instruction(TOKEN_PROGRAM, b"\x06\x02\x01" + bytes(attacker), [mine, signer]),
            Instruction(
                TOKEN_PROGRAM,
                b"\x04" + bytes([1]) + bytes(7),
                [mine, AccountMeta(attacker, False, False), signer],
            ),
            lender.deposit(ix.Party(s.wallet, pda, 7), TWIN_SOL, SOL),
            ix.route(JUPITER, s.wallet, USDC, TWIN_SOL, 5_000 * 10**6, 20 * SOL, 50, 0),
        ]
        expectation = await s.opening()
        for number, loss in enumerate(losses):
            assert auditor.harm(decoded([s.compile([loss])]), expectation) is not None, number
        fair = ix.route(JUPITER, s.wallet, USDC, TWIN_SOL, 5_000 * 10**6, 25 * SOL, 50, 0)
        assert auditor.harm(decoded([s.compile([fair])]), expectation) is None
        assert auditor.executed == len(losses) + 1
