"""Turns a plan into real unsigned v0 transactions with a lookup table."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from twins.asgard import instructions as ix
from twins.asgard.emulation import Emulation, Step
from twins.asgard.lenders import LENDERS
from twins.asgard.plans import Plan, Route
from twins.asgard.routing import PLAIN_ROUTE, RouteStyle, routed
from twins.asgard.swap import ceil
from twins.asgard.venue import MARGINFI, MEMO_PROGRAM, ROUTERS, SOL, TIP_ACCOUNTS, USDC, Token

UNIT_LIMIT = 600_000
UNIT_PRICE_MICRO_LAMPORTS = 100_000
SETUP_UNIT_LIMIT = 200_000
FLASH_MARGIN = Decimal("1.0001")
"""A close borrows a little more than the debt of now, since interest runs until it lands."""
PACKET_BYTES = 1232


@dataclass(frozen=True)
class Style:
    """How builds come: in one transaction or two, with a co-signer's account or without, by which router."""

    transactions: int = 1
    cosigner: bool = False
    router: Pubkey = ROUTERS["jupiter"]
    route: RouteStyle = PLAIN_ROUTE


@dataclass(frozen=True)
class Assembled:
    """Unsigned transactions in order, and their exact message bytes."""

    transactions: list[VersionedTransaction]
    messages: list[bytes]
    tips: list[int]


def base(qty: Decimal, token: Token) -> int:
    return int(qty.scaleb(token.decimals))


def assemble(
    plan: Plan,
    account_index: int,
    tip_lamports: int,
    style: Style,
    emulation: Emulation,
    blockhash: Hash,
    token_account_rent: int,
) -> Assembled:
    """Return the plan's transactions, registered with the emulated programs. `account_index` numbers the position
    account.
    """
    if plan.hollow:
        return _hollow(plan, blockhash)
    lender = LENDERS[plan.market.protocol.id]
    token = plan.market.token_a
    party = ix.Party(plan.wallet, Pubkey.from_string(plan.pda), account_index)
    setup = [ix.create_ata(plan.wallet, USDC.mint), ix.create_ata(plan.wallet, token.mint)]
    if plan.route is not None and not style.route.shared:
        setup += [ix.create_ata(plan.wallet, one.mint) for one in style.route.between(token, USDC)]
    init = lender.init(party, token) if plan.opens else []
    batches: list[tuple[list[Instruction], Step]] = []
    signers: list[Keypair] = []
    if style.transactions == 2:
        head = [*ix.compute_budget(SETUP_UNIT_LIMIT, UNIT_PRICE_MICRO_LAMPORTS), *setup, *init]
        driver = len(head) - 1 if init else -1
        batches.append((head, Step(plan, driver, 0, is_setup=True)))
    body = list(ix.compute_budget(UNIT_LIMIT, UNIT_PRICE_MICRO_LAMPORTS))
    if style.transactions == 1:
        body += [*setup, *init]
    tail: list[Instruction] = []
    if style.cosigner:
        fresh = emulation.keys.keypair()
        signers.append(fresh)
        made, closed = ix.temporary_wsol(plan.wallet, fresh.pubkey(), token_account_rent)
        body += made
        tail.append(closed)
    if token is SOL and plan.wallet_tokens:
        account = party.ata(SOL)
        body += [
            ix.lamport_transfer(plan.wallet, account, base(plan.wallet_tokens, SOL)),
            ix.sync_native(account),
        ]
    body += lender.refresh(party, token)
    steps, flash, main = _position_steps(plan, party, style)
    body += lender.wrap(party, flash, steps, len(body)) if flash else steps
    driver = body.index(steps[main])
    if tip_lamports:
        to = TIP_ACCOUNTS[account_index % len(TIP_ACCOUNTS)]
        tail.append(ix.lamport_transfer(plan.wallet, to, tip_lamports))
    creates = bool(init) and style.transactions == 1
    batches.append((body + tail, Step(plan, driver, tip_lamports, creates_account=creates)))

    table = AddressLookupTableAccount(
        emulation.tables[plan.market.protocol.id], ix.lookup_addresses(plan.market.protocol)
    )
    done = Assembled([], [], [])
    for number, (instructions, step) in enumerate(batches):
        emulation.register(instructions, step)
        message = MessageV0.try_compile(plan.wallet, instructions, [table], blockhash)
        raw = to_bytes_versioned(message)
        transaction = _partly_signed(message, raw, signers if number == len(batches) - 1 else [])
        if len(bytes(transaction)) > PACKET_BYTES:
            raise ValueError(
                f"a {plan.kind} build is {len(bytes(transaction))} bytes, the packet limit is {PACKET_BYTES}"
            )
        done.transactions.append(transaction)
        done.messages.append(raw)
        done.tips.append(step.tip_lamports)
    return done


def _hollow(plan: Plan, blockhash: Hash) -> Assembled:
    """A transaction that lands and does nothing that the plan is for: one memo."""
    memo = Instruction(MEMO_PROGRAM, plan.kind.encode(), [])
    message = MessageV0.try_compile(plan.wallet, [memo], [], blockhash)
    raw = to_bytes_versioned(message)
    return Assembled([_partly_signed(message, raw, [])], [raw], [0])


def _position_steps(plan: Plan, party: ix.Party, style: Style) -> tuple[list[Instruction], int, int]:
    """The instructions on the position, the USDC to flash-borrow around them, and which of them carries the
    effects.

    An amount that depends on what the route delivers is written as the quoted one.
    """
    lender = LENDERS[plan.market.protocol.id]
    token = plan.market.token_a
    route = plan.route
    routed = [] if route is None else [_route(plan, route, style)]
    buys = route is not None and route.buys_token
    deposit = plan.wallet_tokens + (route.quoted_out if route and buys else 0)
    repay = route.quoted_out if plan.repay_proceeds and route else plan.repay
    withdraw = plan.withdraw
    deposits = [lender.deposit(party, token, base(deposit, token))] if deposit else []
    borrows = [lender.borrow(party, base(plan.borrow, USDC))] if plan.borrow else []
    repays = [lender.repay(party, None if repay is None else base(repay, USDC))] if repay != 0 else []
    withdraws = (
        [lender.withdraw(party, token, None if withdraw is None else base(withdraw, token))]
        if withdraw != 0
        else []
    )
    if plan.market.protocol is MARGINFI:
        # Its flash loan is a bracket in which the account may be unhealthy, so money is taken out first.
        steps = [*borrows, *withdraws, *routed, *deposits, *repays]
    elif buys:
        steps = [*routed, *deposits, *borrows]
    else:
        steps = [*deposits, *repays, *withdraws, *routed]
    flash = Decimal(0)
    if buys:
        flash = plan.borrow
    elif routed:
        flash = ceil(plan.debt_now * FLASH_MARGIN, USDC) if repay is None else repay
    return steps, base(flash, USDC), steps.index(routed[0]) if routed else 0


def _route(plan: Plan, route: Route, style: Style) -> Instruction:
    token = plan.market.token_a
    source, destination = (USDC, token) if route.buys_token else (token, USDC)
    amounts = base(route.qty, source), base(route.quoted_out, destination)
    return routed(
        style.route,
        style.router,
        plan.wallet,
        source,
        destination,
        amounts[::-1] if route.exact_out else amounts,
        route.slippage_bps,
        route.fee_bps,
    )


def _partly_signed(message: MessageV0, raw: bytes, signers: list[Keypair]) -> VersionedTransaction:
    """Zero signatures but for the keys made by the builder itself."""
    by_key = {signer.pubkey(): signer.sign_message(raw) for signer in signers}
    required = message.account_keys[: message.header.num_required_signatures]
    return VersionedTransaction.populate(message, [by_key.get(key, Signature.default()) for key in required])
