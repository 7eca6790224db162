"""Intents, fills, fees and breaches belong to a business's subject; positions and funding say venue and account.

Until here everything belonged to a position of the carry trade, so every row that has an owner becomes carry's.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CARRY, LONG_VENUE, SHORT_VENUE = "carry", "asgard", "hyperliquid"


def upgrade() -> None:
    """Add what is new, fill it from what is there, then take away what it replaces. No row is lost or renumbered."""
    _positions()
    _intents()
    _breaches()
    _fills()
    _fees()
    _funding()


def _positions() -> None:
    names = ("long_venue", "long_account", "short_venue", "short_account")
    with op.batch_alter_table("positions") as table:
        table.add_column(sa.Column("underlying", sa.Text(), nullable=False, server_default="SOL"))
        for name in names:
            table.add_column(sa.Column(name, sa.Text(), nullable=False, server_default=""))
    db = op.get_bind()
    rows = db.execute(sa.text("SELECT position_id, facts FROM positions")).all()
    for position_id, facts in rows:
        accounts = _accounts(facts)
        db.execute(
            sa.text(
                "UPDATE positions SET long_venue = :lv, long_account = :la, short_venue = :sv, short_account = :sa"
                " WHERE position_id = :id"
            ),
            {
                "lv": LONG_VENUE,
                "la": accounts.get("solana", ""),
                "sv": SHORT_VENUE,
                "sa": accounts.get("hyperliquid", ""),
                "id": position_id,
            },
        )
    with op.batch_alter_table("positions") as table:
        for name in ("underlying", *names):
            table.alter_column(name, existing_type=sa.Text(), existing_nullable=False, server_default=None)


def _intents() -> None:
    with op.batch_alter_table("intents") as table:
        for name in ("business", "subject", "part"):
            table.add_column(sa.Column(name, sa.Text(), nullable=True))
        table.add_column(sa.Column("ask_ms", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("so_far", sa.JSON(), nullable=True))
    op.execute(f"UPDATE intents SET business = '{CARRY}', subject = position_id, part = leg")
    with op.batch_alter_table("intents") as table:
        table.drop_constraint("uq_intents_step", type_="unique")
        for name in ("business", "subject", "part"):
            table.alter_column(name, existing_type=sa.Text(), nullable=False)
        table.drop_column("position_id")
        table.drop_column("leg")
        table.create_unique_constraint("uq_intents_step", ["business", "subject", "part", "kind", "step"])


def _breaches() -> None:
    op.drop_index("uq_breaches_running", table_name="breaches")
    with op.batch_alter_table("breaches") as table:
        for name in ("business", "subject", "part"):
            table.add_column(sa.Column(name, sa.Text(), nullable=True))
    op.execute(f"UPDATE breaches SET business = '{CARRY}', subject = position_id, part = leg")
    with op.batch_alter_table("breaches") as table:
        for name in ("business", "subject", "part"):
            table.alter_column(name, existing_type=sa.Text(), nullable=False)
        table.drop_column("position_id")
        table.drop_column("leg")
    op.create_index(
        "uq_breaches_running",
        "breaches",
        ["business", "subject", "part", "kind"],
        unique=True,
        sqlite_where=sa.text("cleared_ms IS NULL"),
        postgresql_where=sa.text("cleared_ms IS NULL"),
    )


def _fills() -> None:
    op.drop_index("ix_fills_position_id", table_name="fills")
    with op.batch_alter_table("fills") as table:
        for name in ("business", "subject", "part", "reversal_of"):
            table.add_column(sa.Column(name, sa.Text(), nullable=True))
        for name in ("account", "chain"):
            table.add_column(sa.Column(name, sa.Text(), nullable=False, server_default=""))
    db = op.get_bind()
    op.execute(
        f"UPDATE fills SET business = '{CARRY}', subject = position_id, part = leg WHERE position_id IS NOT NULL"
    )
    op.execute(f"UPDATE fills SET chain = 'solana' WHERE venue = '{LONG_VENUE}'")
    for venue, column in ((SHORT_VENUE, "short_account"), (LONG_VENUE, "long_account")):
        db.execute(
            sa.text(
                f"UPDATE fills SET account = (SELECT p.{column} FROM positions p WHERE p.position_id = fills.position_id)"
                " WHERE venue = :venue AND position_id IS NOT NULL"
            ),
            {"venue": venue},
        )
        # A fill that is nobody's was still collected from our account, where there was only one.
        known = db.execute(sa.text(f"SELECT DISTINCT {column} FROM positions WHERE {column} <> ''")).all()
        if len(known) == 1:
            db.execute(
                sa.text("UPDATE fills SET account = :account WHERE venue = :venue AND position_id IS NULL"),
                {"account": known[0][0], "venue": venue},
            )
    with op.batch_alter_table("fills") as table:
        table.drop_constraint("uq_fills_venue_id", type_="unique")
        for name in ("account", "chain"):
            table.alter_column(name, existing_type=sa.Text(), existing_nullable=False, server_default=None)
        table.drop_column("position_id")
        table.drop_column("leg")
        table.create_unique_constraint("uq_fills_venue_account_id", ["venue", "account", "fill_id"])
    op.create_index("ix_fills_subject", "fills", ["business", "subject"])


def _fees() -> None:
    op.drop_index("ix_fees_position_id", table_name="fees")
    with op.batch_alter_table("fees") as table:
        for name in ("business", "subject", "native_amount", "native_unit"):
            table.add_column(sa.Column(name, sa.Text(), nullable=True))
    op.execute(f"UPDATE fees SET business = '{CARRY}', subject = position_id WHERE position_id IS NOT NULL")
    op.execute(
        "UPDATE fees SET native_amount = CAST(lamports AS TEXT), native_unit = 'lamports' WHERE lamports IS NOT NULL"
    )
    with op.batch_alter_table("fees") as table:
        table.drop_column("position_id")
        table.drop_column("lamports")
    op.create_index("ix_fees_subject", "fees", ["business", "subject"])


def _funding() -> None:
    with op.batch_alter_table("funding_payments") as table:
        table.add_column(sa.Column("venue", sa.Text(), nullable=False, server_default=SHORT_VENUE))
        table.drop_constraint("uq_funding_account_coin_hour", type_="unique")
        table.create_unique_constraint(
            "uq_funding_venue_account_coin_hour", ["venue", "account", "coin", "hour_ms"]
        )
    with op.batch_alter_table("funding_payments") as table:
        table.alter_column("venue", existing_type=sa.Text(), existing_nullable=False, server_default=None)


def _accounts(facts: Any) -> dict[str, str]:
    """Both databases give JSON in a raw statement as they like: as text or already read."""
    found = json.loads(facts) if isinstance(facts, str) else facts
    return dict((found or {}).get("accounts") or {})
