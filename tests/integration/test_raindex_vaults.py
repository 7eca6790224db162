"""Moves of our vaults on a real node: each once, whatever is lost; amounts by the contract's log; nothing else is signed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.errors import VenueRefused
from evenkeel.settings.settings import Settings
from evenkeel.types import IntentSpec
from state.store import Store
from tasks.desk import Desk
from tasks.intents import Done, carry_out
from tasks.lanes import LedgerLanes
from tests.evm_rig import CHAIN_ID, CHARGES, COLLECTOR, ChainClock, EvmRig, NoRows, evm_rig
from tests.raindex_rig import raindex_rig
from twins.evm.deploying import transact
from twins.raindex.contract import ContractMarket
from twins.raindex.market import BOOK
from venues.evm.fees import GWEI, FeeCaps
from venues.evm.sender import Chain
from venues.raindex.floats import encoded
from venues.raindex.vaults import APPROVE, DEPOSIT_CALL, WITHDRAW_CALL, Vault, VaultMoves
from venues.signers.local import LocalEvmKey

ONE = 10**18
CAP = 1_000 * ONE


@dataclass
class Moving:
    """An order book with a wrapped token, of which our key holds a hundred."""

    rig: EvmRig
    market: ContractMarket
    token: str

    def adapter(self, store: Store) -> VaultMoves:
        vaults = {self.token: Vault(vault_id=3, decimals=18, most_units=CAP)}
        return VaultMoves(
            "raindex",
            self.market.book.address,
            vaults,
            self.rig.rpc(),
            LocalEvmKey.from_hex(COLLECTOR),
            LedgerLanes(store.lanes),
            Chain(CHAIN_ID, confirmations=3),
            FeeCaps(GWEI // 2),
            self.rig.clock,
        )

    def desk(self) -> Desk:
        store = Store.open(self.rig.ledger, self.rig.clock, more={CHARGES: NoRows()})
        self.rig.stores.append(store)
        return Desk(Settings(), self.rig.clock, store, {"raindex": self.adapter(store)}, {CHARGES: NoRows()})

    def spec(self, name: str, kind: str, units: int, token: str | None = None) -> IntentSpec:
        return IntentSpec(
            intent_id=name,
            business=CHARGES,
            subject=name,
            venue="raindex",
            kind=kind,
            step=0,
            order={"token": token or self.token, "units": units},
        )

    async def move(self, name: str, kind: str, units: int) -> Any:
        desk = self.desk()
        desk.store.plan_intent(self.spec(name, kind, units))
        return await carry_out(desk, name, None)


@asynccontextmanager
async def moving(folder: Path) -> AsyncIterator[Moving]:
    async with evm_rig(folder) as rig:
        market = ContractMarket(rig.twin.node, ["COIN"])
        token = market.tokens["COIN"].address
        ours = LocalEvmKey.from_hex(COLLECTOR).address
        transact(rig.twin.node, market.issuer, token, "mint(address,uint256)", ours, 100 * ONE)
        yield Moving(rig, market, token)


async def test_a_deposit_and_a_withdrawal_move_what_they_say_once(tmp_path: Path) -> None:
    async with moving(tmp_path) as found:
        assert isinstance(await found.move("a", "approve", CAP), Done)
        done = await found.move("d", "deposit", 40 * ONE + 1)
        assert isinstance(done, Done) and str(done.receipt.done_qty) == "40.000000000000000001"
        back = await found.move("w", "withdraw", 15 * ONE)
        assert isinstance(back, Done) and back.receipt.done_qty == Decimal(15)
        assert int(back.receipt.detail["fee_wei"]) > 0
        adapter = found.adapter(found.rig.stores[-1])
        assert await adapter.held(found.token) == 75 * ONE - 1
        assert await adapter.allowed(found.token) == CAP - 40 * ONE - 1


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("drop_answer", "eth_sendRawTransaction"),
        ("lost", "eth_sendRawTransaction"),
        ("drop_answer", "eth_getTransactionReceipt"),
    ],
)
async def test_whatever_is_lost_a_deposit_is_made_once(kind: str, call: str, tmp_path: Path) -> None:
    async with moving(tmp_path) as found:
        await found.move("a", "approve", CAP)
        fault = found.rig.fault(kind, call, times=2)
        assert isinstance(await found.move("d", "deposit", 40 * ONE), Done)
        assert fault.hits
        assert await found.adapter(found.rig.stores[-1]).held(found.token) == 60 * ONE


async def test_what_is_not_covered_or_not_ours_is_refused_before_a_signature(tmp_path: Path) -> None:
    async with moving(tmp_path) as found:
        adapter = found.desk().venue("raindex")
        for kind, units, why in (
            ("deposit", ONE, "allows 0"),
            ("withdraw", ONE, "the vault holds"),
            ("deposit", CAP + 1, "at most 1000"),
            ("approve", CAP + 1, "at most 1000"),
        ):
            with pytest.raises(VenueRefused, match=why):
                await adapter.build(found.spec("x", kind, units))
        with pytest.raises(VenueRefused, match="no vault of"):
            await adapter.build(found.spec("x", "deposit", ONE, "0x" + "77" * 20))
        with pytest.raises(VenueRefused, match="odd fields: units"):
            await adapter.build(found.spec("x", "deposit", 0))


async def test_the_validator_signs_nothing_but_moves_of_our_own_vault(tmp_path: Path) -> None:
    async with moving(tmp_path) as found:
        adapter = found.adapter(found.desk().store)
        vault, other = (3).to_bytes(32, "big"), (4).to_bytes(32, "big")
        one = encoded(Decimal(1))
        task: tuple[Any, ...] = (("0x" + "11" * 20, "0x" + "11" * 20, b""), [])
        assert adapter._may_move((found.token, vault, one, ())) is None
        for function, arguments in (
            (DEPOSIT_CALL, (found.token, other, one, [])),
            (WITHDRAW_CALL, ("0x" + "77" * 20, vault, one, [])),
            (WITHDRAW_CALL, (found.token, vault, one, [task])),
            (WITHDRAW_CALL, (found.token, vault, encoded(Decimal("1000.1")), [])),
            (DEPOSIT_CALL, (found.token, vault, encoded(Decimal(-1)), [])),
        ):
            assert adapter._may_move(function.arguments(function.call(*arguments))) is not None
        hostile = APPROVE.arguments(APPROVE.call("0x" + "66" * 20, ONE))
        assert adapter._may_approve(adapter.vaults[found.token], hostile) is not None
        assert (DEPOSIT_CALL.selector.hex(), WITHDRAW_CALL.selector.hex()) == ("2fbc4ba0", "60746119")


async def test_the_scripted_node_takes_the_same_moves_and_loses_them_in_the_same_ways(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'vaults.db'}"
    Store.upgrade(url)
    async with raindex_rig() as rig:
        clock = ChainClock(rig.running.world.clock)
        store = Store.open(url, clock, more={CHARGES: NoRows()})
        token, twin = rig.address("COIN"), rig.twin
        adapter = VaultMoves(
            "raindex",
            BOOK,
            {token: Vault(vault_id=3, decimals=18, most_units=CAP)},
            rig.rpc(),
            LocalEvmKey.from_hex(rig.running.owner_key),
            LedgerLanes(store.lanes),
            Chain(twin.chain.chain_id, confirmations=3),
            FeeCaps(GWEI // 2),
            clock,
        )
        desk = Desk(Settings(), clock, store, {"raindex": adapter}, {CHARGES: NoRows()})
        twin.control("wallet", {"symbol": "COIN", "tokens": "100"})
        rig.pass_blocks(1)
        for name, kind, units in (
            ("a", "approve", CAP),
            ("d", "deposit", 40 * ONE + 1),
            ("w", "withdraw", 15 * ONE),
        ):
            rig.plan("lost", "eth_sendRawTransaction")
            rig.plan("drop_answer", "eth_sendRawTransaction", after=1)
            order = {"token": token, "units": units}
            store.plan_intent(
                IntentSpec(
                    intent_id=name,
                    business=CHARGES,
                    subject=name,
                    venue="raindex",
                    kind=kind,
                    step=0,
                    order=order,
                )
            )
            assert isinstance(await carry_out(desk, name, None), Done)
        stock = {"wallet": "74.999999999999999999", "0x" + "0" * 63 + "3": "25.000000000000000001"}
        assert twin.control("holdings", {})["COIN"] == stock
        found = await rig.read(rig.reader())
        assert [(one.kind, one.units) for one in found.moves] == [
            ("deposit", 40 * ONE + 1),
            ("withdraw", 15 * ONE),
        ]
        store.close()
