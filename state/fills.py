"""Writes fills and fees inside the caller's transaction, each once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select, update

from evenkeel.errors import Bug
from evenkeel.types import Fill
from state.database import fetch_all, fetch_one, insert_new, table_of, values_of
from state.ledger_models import Fee, FeeTable, FillRow, FillTable
from state.models import Intent

FEE_KINDS = {"hyperliquid": "hl_taker"}
"""How a trading fee is called in rows, where it is not called by its venue."""
FILLS = table_of(FillTable)
FEES = table_of(FeeTable)
_KNOWN = select(FILLS).where(
    FILLS.c.venue == bindparam("venue"),
    FILLS.c.account == bindparam("account"),
    FILLS.c.fill_id == bindparam("fill_id"),
)
_NAME_ACCOUNT = update(FILLS).where(
    FILLS.c.venue == bindparam("its_venue"),
    FILLS.c.account == "",
    FILLS.c.fill_id == bindparam("its_fill"),
    FILLS.c.side == bindparam("its_side"),
)
"""A row that an earlier version wrote without the account is the same fill: it gains the account. Its number on the
other side is the fill of whom we traded with, which may be another account of ours.
"""


class Owner(NamedTuple):
    """Whose fills these are, as far as it is known; `account` and `chain` are where they happened (`FillRow`)."""

    business: str | None = None
    subject: str | None = None
    part: str | None = None
    intent_id: str | None = None
    account: str = ""
    chain: str = ""

    @classmethod
    def of(cls, intent: Intent, account: str = "", chain: str = "") -> Owner:
        """What an intent's receipt brings belongs to the intent."""
        return cls(intent.business, intent.subject, intent.part, intent.intent_id, account, chain)


def store_fills(
    db: Connection,
    fills: Iterable[Fill],
    owner: Owner,
    reversal_of: str | None = None,
    *,
    compared: bool = False,
) -> int:
    """Insert fills that are not known yet and return how many were new.

    A known fill gains the owner it lacked; one that has another owner or other figures raises Bug.
    """
    new, fills = 0, list(fills)
    without_number = _stored_without_number(db, fills, owner.account)
    by_figures = {} if compared else _known_by_figures(db, fills, owner)
    for at, fill in enumerate(fills):
        row = FillRow(**fill.columns, **owner._asdict(), reversal_of=reversal_of)
        if owner.account:
            named = {"its_venue": fill.venue, "its_fill": fill.fill_id, "its_side": fill.side}
            db.execute(_NAME_ACCOUNT, {**named, "account": owner.account})
        if fill.whole and fill.instead_id in without_number:
            _name_anew(db, fill, owner.account)
        if (twin := by_figures.get(at)) is not None:
            _gain_owner(db, twin, owner)
            continue
        if insert_new(db, FILLS, values_of(row)):
            new += 1
            _store_fill_fee(db, fill, owner)
            continue
        same = {"venue": fill.venue, "account": owner.account, "fill_id": fill.fill_id}
        known = fetch_one(db, FillRow, _KNOWN, **same)
        if known is not None and _differs_by_fee(known.fill, fill):
            known = _gain_fee(db, known, fill)
        elif known is None or (known.fill, known.reversal_of) != (fill.bare, reversal_of):
            raise Bug(
                f"fill {fill.venue} {fill.fill_id} is stored with other figures: {known} against {fill}, which takes "
                f"back {reversal_of or 'nothing'}"
            )
        _gain_owner(db, known, owner)
    return new


def _stored_without_number(db: Connection, fills: Sequence[Fill], account: str) -> set[str]:
    """Ids under which some of these fills stand because their numbers could not be read then; those that stand under their
    numbers as well keep both.
    """
    former = {fill.instead_id: fill.fill_id for fill in fills if fill.whole and fill.instead_id is not None}
    if not former:
        return set()
    ids = {*former, *former.values()}
    query = select(FILLS.c.fill_id).where(
        FILLS.c.venue.in_({fill.venue for fill in fills}),
        FILLS.c.account == account,
        FILLS.c.fill_id.in_(ids),
    )
    stored = set(db.execute(query).scalars())
    return {name for name, number in former.items() if name in stored and number not in stored}


def _name_anew(db: Connection, fill: Fill, account: str) -> None:
    """A fill that was stored before its number could be read gains it; its fee keeps no other name."""
    former = fill.model_copy(update={"fill_id": fill.instead_id})
    mine = (FILLS.c.venue == fill.venue, FILLS.c.account == account, FILLS.c.fill_id == former.fill_id)
    db.execute(update(FILLS).where(*mine).values(fill_id=fill.fill_id))
    key = FEES.c.fee_key == _fee_key(former, account)
    db.execute(update(FEES).where(key).values(fee_key=_fee_key(fill, account)))


def _known_by_figures(db: Connection, fills: Sequence[Fill], owner: Owner) -> dict[int, FillRow]:
    """By place, the stored row of each fill whose number cannot be read now and was read before."""
    unread = [fill for fill in fills if fill.lacks_number]
    if not unread:
        return {}
    query = select(FILLS).where(
        FILLS.c.venue.in_({fill.venue for fill in unread}),
        FILLS.c.account == owner.account,
        FILLS.c.time_ms.in_({fill.time_ms for fill in unread}),
    )
    rows = {row.fill_id: row for row in fetch_all(db, FillRow, query)}
    names = names_in_books(fills, {name: row.fill for name, row in rows.items()})
    return {
        at: rows[name] for at, name in names.items() if fills[at].lacks_number and name != fills[at].fill_id
    }


def names_in_books(listed: Sequence[Fill], known: Mapping[str, Fill]) -> dict[int, str]:
    """By place in the list, the id under which each fill is known already: its own, the one that it had while its number
    could not be read, or, where its number cannot be read now, that of a known fill of the same figures that no other
    listed fill is. Two of one order may be alike to the last figure.
    """
    names: dict[int, str] = {}
    taken: set[str] = set()

    def take(at: int, name: str | None) -> None:
        if name is not None and at not in names and name in known and name not in taken:
            names[at] = name
            taken.add(name)

    for at, fill in enumerate(listed):
        take(at, fill.fill_id)
    for at, fill in enumerate(listed):
        take(at, fill.instead_id)
    for at, fill in enumerate(listed):
        if fill.lacks_number and at not in names:
            parts = fill.fill_id.count(":")  # an id without a number has as many, and is another fill's
            alike = (name for name, row in known.items() if row.figures == fill.figures)
            take(at, next((one for one in alike if one not in taken and one.count(":") != parts), None))
    return names


def _differs_by_fee(known: Fill, fill: Fill) -> bool:
    """Whether they are one but for a fee that could not be read of one of them."""
    if known.fee_usd == fill.fee_usd or fill.instead_id is None:  # of a venue whose fees are always there
        return False
    missing = known.fee_usd == 0 or (not fill.whole and fill.fee_usd == 0)
    return missing and known.model_copy(update={"fee_usd": fill.fee_usd}) == fill.bare


def _gain_fee(db: Connection, known: FillRow, fill: Fill) -> FillRow:
    if not fill.fee_usd:
        return known
    db.execute(update(FILLS).where(FILLS.c.id == known.id).values(fee_usd=fill.fee_usd))
    owner = Owner(known.business, known.subject, known.part, known.intent_id, known.account, known.chain)
    _store_fill_fee(db, fill, owner)
    return known.model_copy(update={"fee_usd": fill.fee_usd})


def _gain_owner(db: Connection, known: FillRow, owner: Owner) -> None:
    gained: dict[str, str] = {}
    for name, value in owner._asdict().items():
        stored = getattr(known, name)
        if stored and value and stored != value:
            raise Bug(f"fill {known.venue} {known.fill_id} belongs to {name} {stored}, not to {value}")
        if not stored and value is not None and value != stored:
            gained[name] = value
    if not gained:
        return
    db.execute(update(FILLS).where(FILLS.c.id == known.id).values(**gained))
    of_fee = {name: value for name, value in gained.items() if name in ("business", "subject", "intent_id")}
    if not of_fee or not known.fee_usd:
        return
    # Without a key of its own it is the row that had no account; else that key is the fee of the other side.
    for account in (known.account, ""):
        mine = update(FEES).where(FEES.c.fee_key == _fee_key(known.fill, account))
        if db.execute(mine.values(**of_fee)).rowcount:
            return


def store_fee(db: Connection, fee: Fee) -> bool:
    """Insert a fee unless its key is known; True when new. The same key with another amount raises Bug."""
    if insert_new(db, FEES, values_of(fee)):
        return True
    known = fetch_one(db, Fee, select(FEES).where(FEES.c.fee_key == fee.fee_key))
    if known is None or (known.kind, known.native_amount, known.native_unit) != (
        fee.kind,
        fee.native_amount,
        fee.native_unit,
    ):
        raise Bug(f"fee {fee.fee_key} is stored with other figures: {known} against {fee}")
    if known.amount_usd is None and fee.amount_usd is not None:
        db.execute(update(FEES).where(FEES.c.fee_key == fee.fee_key).values(amount_usd=fee.amount_usd))
    elif fee.amount_usd is not None and fee.amount_usd != known.amount_usd:
        raise Bug(f"fee {fee.fee_key} is stored as {known.amount_usd} USD, now {fee.amount_usd}")
    return False


def _store_fill_fee(db: Connection, fill: Fill, owner: Owner) -> None:
    if not fill.fee_usd:
        return
    kind = FEE_KINDS.get(fill.venue, f"{fill.venue}_trade")
    fee = Fee(
        kind=kind,
        fee_key=_fee_key(fill, owner.account),
        business=owner.business,
        subject=owner.subject,
        intent_id=owner.intent_id,
        amount_usd=fill.fee_usd,
        at_ms=fill.time_ms,
    )
    store_fee(db, fee)


def _fee_key(fill: Fill, account: str) -> str:
    """Two accounts that trade with each other share the number of a fill. Rows of schema 0002 have no account in the key."""
    return ":".join(
        ("fill", fill.venue, account, fill.fill_id) if account else ("fill", fill.venue, fill.fill_id)
    )
