"""The second line behind the static rules: what a build would leave behind, as our own node plays it through.

Never the only line: a program can notice that it is simulated. What must hold afterwards: docs/rules.md, "What may be signed".
"""

from __future__ import annotations

import base64
import binascii
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from solders.pubkey import Pubkey

from evenkeel.errors import NOT_NOW, UNREAD, NotUnderstood
from venues.solana.answers import AccountInfo
from venues.solana.rpc import SolanaRpc
from venues.solana.rules.amounts import SLACK
from venues.solana.rules.approval import Refused
from venues.solana.rules.bounds import tolerance_of
from venues.solana.rules.common import (
    SELLING,
    SYSTEM,
    TOKEN_2022,
    USDC_MINT,
    WSOL_MINT,
    Expectation,
    Operation,
    Rules,
)
from venues.solana.rules.holdings import holdings_of
from venues.solana.rules.lending import check_position
from venues.solana.rules.token import TokenState, token_problem, token_state
from venues.solana.rules.validator import Verdict
from venues.solana.view import ChainView, Keys, Violation

RULE = "simulation"
WOULD_FAIL = "it would fail: "
"""How the reason begins where the node has played it through and a program refused."""


@dataclass(frozen=True, slots=True)
class NotSimulated:
    """No verdict either way. `transient`: another try, or another build, may be simulated."""

    reason: str
    transient: bool


@dataclass(frozen=True, slots=True)
class Simulated:
    """Passed. `metas` are the node's figures by transaction, None where it depends on one that has not landed yet."""

    metas: tuple[dict[str, Any] | None, ...]


async def simulate(
    rpc: SolanaRpc, verdict: Verdict, expectation: Expectation, view: ChainView, rules: Rules
) -> Simulated | Refused | NotSimulated:
    """Run every transaction of an approved build on our own node, unsigned. Never raises for what a node may answer.

    A later transaction that fails because it needs the ones before it has no simulation of its own: static rules stand.
    """
    metas: list[dict[str, Any] | None] = []
    for number, approved in enumerate(verdict.approved):
        keys = verdict.keys[number]
        asked = [key for key in keys.every if key in keys.writable]
        try:
            value = await _call(rpc, approved.unsigned, asked)
        except UNREAD as error:
            return NotSimulated(str(error), transient=isinstance(error, NOT_NOW))
        if value.get("err") is not None:
            if number:
                metas.append(None)
                continue
            stale = value["err"] in ("BlockhashNotFound", "AlreadyProcessed")
            words = f"it cannot be played through: {value['err']}" if stale else f"{WOULD_FAIL}{value['err']}"
            return NotSimulated(words, transient=stale)
        try:
            check_after(value, asked, keys, verdict, expectation, view, rules)
        except Violation as broken:
            return Refused(broken.rule, f"simulation: {broken.reason}")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            return NotSimulated(f"odd answer to simulateTransaction: {type(error).__name__}", transient=True)
        metas.append(value)
    return Simulated(tuple(metas))


async def _call(rpc: SolanaRpc, raw: bytes, asked: list[Pubkey]) -> dict[str, Any]:
    config = {
        "encoding": "base64",
        "sigVerify": False,
        "replaceRecentBlockhash": False,
        "commitment": "confirmed",
        "innerInstructions": True,
        "accounts": {"encoding": "base64", "addresses": [str(key) for key in asked]},
    }
    answer = await rpc.call("simulateTransaction", [base64.b64encode(raw).decode(), config])
    value = answer.get("value") if isinstance(answer, dict) else None
    if not isinstance(value, dict) or "err" not in value:
        raise NotUnderstood("solana rpc", "simulateTransaction: no value")
    return value


def check_after(
    value: dict[str, Any],
    asked: list[Pubkey],
    keys: Keys,
    verdict: Verdict,
    expectation: Expectation,
    view: ChainView,
    rules: Rules,
) -> None:
    """Check the state after one transaction. Raises `Violation`, or KeyError and the like for an answer of another
    shape.
    """
    shown = value["accounts"]
    if len(shown) != len(asked):
        raise KeyError("accounts")
    after = {key: _account(one) for key, one in zip(asked, shown, strict=True)}
    wallet = expectation.wallet
    _check_wallet(view.account(wallet), after[wallet], verdict, expectation, rules)
    _check_tokens(after, expectation, view, rules)
    _check_loaded(value.get("loadedAddresses"), keys)
    _check_inner(value.get("innerInstructions"), keys, rules, verdict.unknown_programs)
    position = verdict.position
    if position is None or position not in after:
        return
    if (state := after[position]) is not None:
        check_position(expectation.lender, wallet, expectation.market, position, state)
    if expectation.op in SELLING and keys is verdict.keys[-1]:
        _check_left(expectation, view.account(position), state)


def _check_left(expectation: Expectation, before: AccountInfo | None, after: AccountInfo | None) -> None:
    """A close leaves nothing; a smaller way out leaves what it does not withdraw."""
    held, left = (holdings_of(expectation.lender, one) for one in (before, after))
    if held is None or left is None:
        raise Violation(RULE, "the position would not be readable as one of its lender's")
    closes = expectation.op is Operation.CLOSE
    share = 0 if closes else 1 - expectation.withdraw_share
    if left.deposited < held.deposited * (share - SLACK):
        raise Violation(
            RULE, f"{left.deposited} of {held.deposited} would be left of the deposit, {share:.4f} is implied"
        )
    if closes and (left.deposited > held.deposited * SLACK or left.owed > held.owed * SLACK):
        raise Violation(
            RULE, f"the position would not be empty: {left.deposited} of {held.deposited} left in the lender"
        )


def _account(one: dict[str, Any] | None) -> AccountInfo | None:
    if one is None or not one["lamports"]:
        return None
    try:
        data = base64.b64decode(one["data"][0], validate=True)
    except binascii.Error as error:
        raise ValueError("account data") from error
    return AccountInfo(str(one["owner"]), int(one["lamports"]), data, bool(one.get("executable", False)))


def _check_wallet(
    before: AccountInfo | None,
    after: AccountInfo | None,
    verdict: Verdict,
    expectation: Expectation,
    rules: Rules,
) -> None:
    if before is None or after is None:
        raise Violation(RULE, "the wallet would be empty")
    if after.owner != str(SYSTEM) or after.data:
        raise Violation(
            RULE, f"the wallet would belong to {after.owner} and hold {len(after.data)} bytes of data"
        )
    spent = before.lamports - after.lamports
    allowed = verdict.fee_lamports + verdict.tip_lamports + rules.rent_cap_lamports
    allowed += expectation.wrap_lamports + expectation.withdraw_lamports
    if spent > allowed:
        raise Violation(RULE, f"the wallet would lose {spent} lamports, at most {allowed} are explained")


def _check_tokens(
    after: dict[Pubkey, AccountInfo | None], expectation: Expectation, view: ChainView, rules: Rules
) -> None:
    wallet = expectation.wallet
    deltas: dict[Pubkey, int] = defaultdict(int)
    for account, info in after.items():
        was, now = _ours(token_state(view.account(account)), wallet), token_state(info)
        if was is not None and now is None and info is not None:
            raise Violation(RULE, f"our token account {account} would belong to program {info.owner}")
        if was is not None:
            deltas[was.mint] -= (
                0 if was.native and now is None else was.amount
            )  # closing wrapped SOL pays lamports
        if now is None or (was is None and now.owner != wallet):
            continue
        problem = token_problem(now, wallet)
        if problem is not None and not (was and expectation.is_exit and _as_before(was, now)):
            raise Violation(RULE, f"our token account {account} {problem} afterwards")
        deltas[now.mint] += now.amount
    for mint, delta in deltas.items():
        floor = _floor(mint, expectation, rules)
        if floor is not None and delta < floor:
            raise Violation(
                RULE, f"the wallet would lose {-delta} base units of {mint}, at most {-floor} are asked for"
            )


def _floor(mint: Pubkey, expectation: Expectation, rules: Rules) -> int | None:
    """Least change of the wallet's holding. None: no bound, for the debt of a sale whose price nobody knows.

    A position that owes more than it fetches is closed with USDC of the wallet: that must not keep us from leaving.
    """
    if mint == USDC_MINT and expectation.op in SELLING:
        if expectation.price_usd is None:
            return None
        worth = expectation.max_asset_in * expectation.price_usd.scaleb(6 - expectation.asset_decimals)
        return -int(worth * tolerance_of(expectation, rules))
    if mint == USDC_MINT:
        return -expectation.usdc_outlay - expectation.withdraw_usdc
    if mint == expectation.asset_mint and expectation.op in SELLING:
        return -int(expectation.max_asset_in * SLACK)
    return -expectation.wrap_lamports if mint == WSOL_MINT else 0


def _ours(state: TokenState | None, wallet: Pubkey) -> TokenState | None:
    return state if state is not None and state.owner == wallet else None


def _as_before(was: TokenState, now: TokenState) -> bool:
    then = (was.owner, was.delegate, was.close_authority, was.is_initialized)
    return then == (now.owner, now.delegate, now.close_authority, now.is_initialized)


def _check_loaded(loaded: Any, keys: Keys) -> None:
    """Old nodes leave this out; those that give it must have resolved the tables as we did."""
    if not isinstance(loaded, dict):
        return
    theirs = (tuple(loaded["writable"]), tuple(loaded["readonly"]))
    ours = tuple(tuple(str(key) for key in part) for part in (keys.loaded_writable, keys.loaded_readonly))
    if theirs != ours:
        raise Violation("lookup-table", "the node resolves the lookup tables to other addresses than we do")


def _check_inner(inner: Any, keys: Keys, rules: Rules, unknown: frozenset[Pubkey]) -> None:
    """With our signature anywhere in the call tree, only known programs may be called, and those noted on the way out."""
    reachable = {str(key) for key in (*rules.reachable, *unknown, TOKEN_2022)}
    for group in inner or []:
        for one in group["instructions"]:
            program = keys.every[int(one["programIdIndex"])] if "programIdIndex" in one else one["programId"]
            if str(program) not in reachable:
                raise Violation("program", f"instruction {group['index']} calls program {program}")
