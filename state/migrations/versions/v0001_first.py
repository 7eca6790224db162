"""The first schema: positions, intents, attempts, the append-only log, leases and the books."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _where(condition: Any) -> dict[str, Any]:
    return {"sqlite_where": condition, "postgresql_where": condition}


def upgrade() -> None:
    """Create every table, and make the audit log refuse changes in the database itself."""
    _create_tables()
    if op.get_bind().dialect.name == "postgresql":
        _append_only_postgresql()
    else:
        _append_only_sqlite()


def _append_only_sqlite() -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER transitions_no_{verb.lower()} BEFORE {verb} ON transitions "
            "BEGIN SELECT RAISE(ABORT, 'transitions is append-only'); END"
        )
    # INSERT OR REPLACE deletes without firing the DELETE trigger.
    op.execute(
        "CREATE TRIGGER transitions_no_replace BEFORE INSERT ON transitions "
        "WHEN EXISTS (SELECT 1 FROM transitions WHERE id = NEW.id) "
        "BEGIN SELECT RAISE(ABORT, 'transitions is append-only'); END"
    )


def _append_only_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION transitions_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'transitions is append-only' "
        "USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    op.execute(
        "CREATE TRIGGER transitions_no_change BEFORE UPDATE OR DELETE ON transitions "
        "FOR EACH ROW EXECUTE FUNCTION transitions_append_only()"
    )
    op.execute(
        "CREATE TRIGGER transitions_no_truncate BEFORE TRUNCATE ON transitions "
        "FOR EACH STATEMENT EXECUTE FUNCTION transitions_append_only()"
    )


def _create_tables() -> None:

    op.create_table(
        "alerts",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("acked_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "uq_alerts_open", "alerts", ["kind", "subject"], unique=True, **_where(sa.text("acked_ms IS NULL"))
    )
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "pauses",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=True),
        sa.Column("resumed_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "uq_pauses_running",
        "pauses",
        ["scope", "reason"],
        unique=True,
        **_where(sa.text("resumed_ms IS NULL")),
    )
    op.create_table(
        "positions",
        sa.Column("position_id", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("protocol", sa.Integer(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("leverage", sa.Text(), nullable=False),
        sa.Column("size_usd", sa.Text(), nullable=True),
        sa.Column("target_long_qty", sa.Text(), nullable=True),
        sa.Column("target_short_qty", sa.Text(), nullable=True),
        sa.Column("ref_long_price_usd", sa.Text(), nullable=True),
        sa.Column("ref_short_price_usd", sa.Text(), nullable=True),
        sa.Column("expected_apr", sa.Text(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("close_reason", sa.Text(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("opened_ms", sa.BigInteger(), nullable=True),
        sa.Column("closed_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("position_id"),
    )
    op.create_index("ix_positions_status", "positions", ["status"])
    op.create_table(
        "price_snapshots",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("venue", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("price_usd", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("venue", "asset", "kind", "at_ms", name="uq_price_snapshots"),
    )
    op.create_table(
        "rate_snapshots",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("venue", sa.Text(), nullable=False),
        sa.Column("market", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("interval_ms", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("venue", "market", "kind", "at_ms", name="uq_rate_snapshots"),
    )
    op.create_table(
        "transitions",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=False),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_transitions_entity", "transitions", ["entity", "entity_id", "id"])
    op.create_table(
        "breaches",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("position_id", sa.Text(), nullable=False),
        sa.Column("leg", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("fired_ms", sa.BigInteger(), nullable=True),
        sa.Column("cleared_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["positions.position_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "uq_breaches_running",
        "breaches",
        ["position_id", "leg", "kind"],
        unique=True,
        **_where(sa.text("cleared_ms IS NULL")),
    )
    op.create_table(
        "funding_payments",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("coin", sa.Text(), nullable=False),
        sa.Column("hour_ms", sa.BigInteger(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("usdc", sa.Text(), nullable=False),
        sa.Column("position_size", sa.Text(), nullable=False),
        sa.Column("funding_rate_hourly", sa.Text(), nullable=False),
        sa.Column("position_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["positions.position_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account", "coin", "hour_ms", name="uq_funding_account_coin_hour"),
    )
    op.create_index("ix_funding_payments_position_id", "funding_payments", ["position_id"])
    op.create_table(
        "intents",
        sa.Column("intent_id", sa.Text(), nullable=False),
        sa.Column("position_id", sa.Text(), nullable=False),
        sa.Column("venue", sa.Text(), nullable=False),
        sa.Column("leg", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("order", sa.JSON(), nullable=False),
        sa.Column("note", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("deadline_ms", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["positions.position_id"],
        ),
        sa.PrimaryKeyConstraint("intent_id"),
        sa.UniqueConstraint("position_id", "leg", "kind", "step", name="uq_intents_step"),
    )
    op.create_index("ix_intents_state", "intents", ["state"])
    op.create_table(
        "legs",
        sa.Column("position_id", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("venue", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("protocol", sa.Integer(), nullable=True),
        sa.Column("qty", sa.Text(), nullable=False),
        sa.Column("entry_price_usd", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("opened_ms", sa.BigInteger(), nullable=False),
        sa.Column("closed_ms", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["positions.position_id"],
        ),
        sa.PrimaryKeyConstraint("position_id", "side"),
    )
    op.create_index("ix_legs_status", "legs", ["status"])
    op.create_table(
        "position_snapshots",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("position_id", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("equity_usd", sa.Text(), nullable=True),
        sa.Column("long_equity_usd", sa.Text(), nullable=True),
        sa.Column("short_equity_usd", sa.Text(), nullable=True),
        sa.Column("long_liquidation_distance", sa.Text(), nullable=True),
        sa.Column("short_liquidation_distance", sa.Text(), nullable=True),
        sa.Column("funding_rate_hourly", sa.Text(), nullable=True),
        sa.Column("long_price_usd", sa.Text(), nullable=True),
        sa.Column("short_price_usd", sa.Text(), nullable=True),
        sa.Column("delta_sol", sa.Text(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["positions.position_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("position_id", "at_ms", name="uq_position_snapshots"),
    )
    op.create_table(
        "attempts",
        sa.Column("intent_id", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("key", sa.JSON(), nullable=False),
        sa.Column("signed_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.Column("sends", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=True),
        sa.Column("resolved_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["intent_id"],
            ["intents.intent_id"],
        ),
        sa.PrimaryKeyConstraint("intent_id", "n"),
    )
    op.create_index(
        "uq_attempts_one_alive",
        "attempts",
        ["intent_id"],
        unique=True,
        **_where(sa.text("outcome <> 'rejected'")),
    )
    op.create_table(
        "fees",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("fee_key", sa.Text(), nullable=False),
        sa.Column("position_id", sa.Text(), nullable=True),
        sa.Column("intent_id", sa.Text(), nullable=True),
        sa.Column("amount_usd", sa.Text(), nullable=True),
        sa.Column("lamports", sa.BigInteger(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["intent_id"],
            ["intents.intent_id"],
        ),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["positions.position_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("fee_key"),
    )
    op.create_index("ix_fees_position_id", "fees", ["position_id"])
    op.create_table(
        "fills",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("venue", sa.Text(), nullable=False),
        sa.Column("fill_id", sa.Text(), nullable=False),
        sa.Column("position_id", sa.Text(), nullable=True),
        sa.Column("intent_id", sa.Text(), nullable=True),
        sa.Column("leg", sa.Text(), nullable=True),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("qty", sa.Text(), nullable=False),
        sa.Column("price_usd", sa.Text(), nullable=False),
        sa.Column("fee_usd", sa.Text(), nullable=False),
        sa.Column("closed_pnl_usd", sa.Text(), nullable=True),
        sa.Column("order_ref", sa.Text(), nullable=True),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["intent_id"],
            ["intents.intent_id"],
        ),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["positions.position_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("venue", "fill_id", name="uq_fills_venue_id"),
    )
    op.create_index("ix_fills_position_id", "fills", ["position_id"])
    op.create_table(
        "lending_changes",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("position_id", sa.Text(), nullable=False),
        sa.Column("intent_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("tokens_before", sa.Text(), nullable=False),
        sa.Column("tokens_after", sa.Text(), nullable=False),
        sa.Column("debt_before_usd", sa.Text(), nullable=False),
        sa.Column("debt_after_usd", sa.Text(), nullable=False),
        sa.Column("swap_token_qty", sa.Text(), nullable=False),
        sa.Column("swap_usdc_qty", sa.Text(), nullable=False),
        sa.Column("wallet_usdc_delta", sa.Text(), nullable=False),
        sa.Column("protocol_fee_usd", sa.Text(), nullable=False),
        sa.Column("gas_lamports", sa.BigInteger(), nullable=False),
        sa.Column("tip_lamports", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["intent_id"],
            ["intents.intent_id"],
        ),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["positions.position_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("position_id", "ref", name="uq_lending_position_ref"),
    )
