"""Builds whose swap comes in every form of the router, through every kind of exchange, over one to three of them."""

from __future__ import annotations

import base64
import struct
from decimal import Decimal
from typing import Any

import pytest
from solders.instruction import CompiledInstruction
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from tests.integration.asgard_twin_bench import KAMINO, MARGINFI, SOLEND, WSOL, Bench, bench
from twins.asgard.exchanges import EXCHANGES, PUBLISHED
from twins.asgard.instructions import anchor
from twins.asgard.routing import FORMS
from twins.asgard.venue import JUPITER


def route_of(build: dict[str, Any]) -> bytes:
    """The data of the one route in a build."""
    tx = VersionedTransaction.from_bytes(base64.b64decode(build["signedTxs"][-1]))
    keys = tx.message.account_keys

    def is_route(step: CompiledInstruction) -> bool:
        return bool(keys[step.program_id_index] == JUPITER)

    (found,) = [step for step in tx.message.instructions if is_route(step)]
    return bytes(found.data)


def routes(b: Bench, **body: Any) -> None:
    b.twin.control("routes", body)


@pytest.mark.parametrize(
    ("form", "protocol"),
    [*((form, KAMINO) for form in FORMS), (FORMS[0], MARGINFI), (FORMS[-1], MARGINFI), (FORMS[5], SOLEND)],
)
async def test_a_position_opens_and_closes_by_every_form(form: str, protocol: int) -> None:
    async with bench() as b:
        routes(b, form=form, exchanges=["HumidiFi", "WhirlpoolSwapV2", "SolFiV2"])
        before = b.usdc()
        build = await b.post("/create-position", await b.trade(protocol))
        assert route_of(build).startswith(anchor(form))
        pda = (await b.post("/submit-create-position-tx", b.sign(build)))["positionPda"]
        build = await b.post("/close-position", b.modify(pda, protocol, collateralType=1))
        data = route_of(build)[8 + form.startswith("shared") :]
        amounts = struct.unpack_from("<QQH", data, 0 if form.endswith("_v2") else len(data) - 19)
        sold, usdc = amounts[:2][::-1] if "exact_out" in form else amounts[:2]
        assert usdc / sold * 1000 == pytest.approx(200, rel=0.01) and amounts[2] == 50
        await b.post("/submit-close-position-tx", b.sign(build))
        assert not b.truth(pda)["live"]
        held = Decimal(b.chain.token_balance(b.wallet.pubkey(), WSOL)).scaleb(-9)
        assert (held > 0) == ("exact_out" in form), "what an exact amount out did not need is left"
        assert b.usdc() + held * 200 == pytest.approx(before, rel=Decimal("0.002"))


async def test_a_close_builds_through_every_kind_of_exchange() -> None:
    assert len(EXCHANGES) > PUBLISHED == EXCHANGES["PumpWrappedSellV4"].number + 1
    for name, number in (
        ("Whirlpool", 17),
        ("SolFi", 61),
        ("HumidiFi", 87),
        ("TesseraV", 89),
        ("SolFiV2", 95),
    ):
        assert EXCHANGES[name].number == number
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        for name, kind in EXCHANGES.items():
            form = FORMS[kind.number % len(FORMS)]
            routes(b, form=form, exchanges=[name])
            build = await b.post("/close-position", b.modify(pda, collateralType=1))
            data, payload = route_of(build), kind.payload(True)
            step = bytes([kind.number]) + payload + (b"\x10\x27" if "v2" in form else b"\x64") + b"\0\1"
            assert step in data
            if kind.number % 9 == 0:
                raw = b.sign(build)["signedTxs"][0]
                assert b.chain.simulate(base64.b64decode(raw)).err is None, name
        await b.close(pda)
        assert not b.truth(pda)["live"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Saber", ""),
        ("Symmetry", "01000000000000000100000000000000"),
        ("SanctumS", "01010100000001000000"),
        ("WhirlpoolSwapV2", "0100"),
        ("MeteoraDlmmSwapV2", "010000000002"),
        ("HumidiFi", "010000000000000001"),
        ("GoonFi", "0101"),
        ("DynamicV1", "02000000004d0000000000000001" + "0100"),
        ("Scorch", "01000000000000000000000000000000"),
    ],
)
def test_the_arguments_of_a_step_are_those_of_the_program(name: str, arguments: str) -> None:
    assert EXCHANGES[name].payload(True).hex() == arguments


async def test_a_step_that_nobody_published_and_programs_that_nobody_knows() -> None:
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        unknown = Pubkey.new_unique()
        routes(b, raw={"kind": 200, "arguments": "c0ffee"}, programs=[str(unknown)])
        build = await b.post("/close-position", b.modify(pda, collateralType=1))
        assert b"\x01\0\0\0" + bytes([200]) + bytes.fromhex("c0ffee") + b"\x64\0\1" in route_of(build)
        tx = VersionedTransaction.from_bytes(base64.b64decode(build["signedTxs"][0]))
        assert unknown in tx.message.account_keys
        await b.post("/submit-close-position-tx", b.sign(build))
        assert not b.truth(pda)["live"]
        for wrong in ({"form": "teleport"}, {"exchanges": ["Nowhere"]}, {"exchanges": ["Saber"] * 4}):
            with pytest.raises(ValueError, match=r"one of|one to"):
                routes(b, **wrong)


async def test_an_exact_amount_out_costs_more_when_the_price_has_moved_and_fails_beyond_the_bound() -> None:
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        routes(b, form="exact_out_route_v2")
        build = await b.post("/close-position", b.modify(pda, collateralType=1))
        usdc = b.usdc()
        b.series.price = 199.2
        b.broadcast(b.sign(build))
        assert b.usdc() > usdc
        (wsol,) = [b.chain.token_balance(b.wallet.pubkey(), WSOL)]
        assert 0 < wsol < 0.003 * 15 * 10**9
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        routes(b, form="exact_out_route_v2")
        build = await b.post("/close-position", b.modify(pda, collateralType=1))
        b.series.price = 198.0
        with pytest.raises(Exception, match="0x1771"):
            b.broadcast(b.sign(build))
