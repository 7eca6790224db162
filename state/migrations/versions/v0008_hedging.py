"""Hedged market making: what was read of a chain, exposure, hedges, sessions, logins and rebalances."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _texts(*names: str, nullable: bool = False) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=nullable) for name in names]


def _numbers(*names: str, nullable: bool = False) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=nullable) for name in names]


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), primary_key=True)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(), nullable=False)


def _index() -> sa.Column[int]:
    return sa.Column("log_index", sa.Integer(), nullable=False)


def _live() -> sa.Column[bool]:
    return sa.Column("is_live", sa.Boolean(), nullable=False)


def _unique_where(name: str, table: str, columns: list[str], condition: str) -> None:
    there = sa.text(condition)
    op.create_index(name, table, columns, unique=True, sqlite_where=there, postgresql_where=there)


def upgrade() -> None:
    """Add the tables, and that a symbol has one open hedge."""
    _chain()
    _hedges()
    live = ["chain", "transaction", "log_index"]
    for table in ("raw_logs", "chain_fills", "vault_moves", "quarantine"):
        _unique_where(f"uq_{table}_live", table, live, "is_live")
    for table in ("raw_logs", "chain_fills", "vault_moves"):
        op.create_index(f"ix_{table}_block", table, ["chain", "block"])
    for table in ("chain_fills", "hedge_fills"):
        op.create_index(f"ix_{table}_symbol", table, ["symbol", "at_ms"])
    _unique_where("uq_rebalances_open", "rebalances", ["scope"], "state <> 'DONE' AND state <> 'REFUSED'")
    _unique_where(
        "uq_intents_open_hedge",
        "intents",
        ["business", "subject"],
        "business = 'hedging' AND kind = 'hedge' AND state <> 'CONFIRMED' AND state <> 'FAILED'",
    )


def _chain() -> None:
    op.create_table(
        "hedge_cursors",
        _key("chain"),
        _key("contract"),
        *_numbers("next_block"),
        *_texts("last_hash"),
        *_numbers("newest", "at_ms"),
        _json("skipped"),
        *_numbers("updated_ms"),
    )
    op.create_table(
        "hedge_blocks",
        _key("chain"),
        _key("contract"),
        sa.Column("number", sa.BigInteger(), primary_key=True),
        *_texts("hash"),
    )
    op.create_table(
        "raw_logs",
        _id(),
        *_texts("chain", "contract", "transaction"),
        _index(),
        *_numbers("block"),
        *_texts("block_hash"),
        _json("topics"),
        *_texts("data"),
        _live(),
    )
    op.create_table(
        "chain_fills",
        _id(),
        *_texts("chain", "contract", "transaction"),
        _index(),
        *_numbers("block"),
        *_texts("block_hash"),
        *_numbers("at_ms", "recorded_ms"),
        *_texts("kind", "symbol", "side", "shares", "usdc", "token", "ratio"),
        _live(),
        *_numbers("reversal_of", nullable=True),
    )
    op.create_table(
        "vault_moves",
        _id(),
        *_texts("chain", "contract", "transaction"),
        _index(),
        *_numbers("block"),
        *_texts("block_hash"),
        *_numbers("at_ms"),
        *_texts("kind", "token", "vault_id", "units"),
        _live(),
        *_numbers("reversal_of", nullable=True),
    )
    op.create_table(
        "quarantine",
        _id(),
        *_texts("chain", "contract", "transaction"),
        _index(),
        *_numbers("block"),
        *_texts("why", "symbol"),
        *_numbers("at_ms"),
        _live(),
    )


def _hedges() -> None:
    op.create_table(
        "exposures",
        _key("symbol"),
        *_texts("chain_bought", "chain_sold", "hedge_bought", "hedge_sold", "open_shares"),
        *_texts("price_usd", nullable=True),
        *_numbers("price_ms", "updated_ms"),
    )
    op.create_table(
        "hedge_fills",
        _id(),
        sa.Column("intent_id", sa.Text(), sa.ForeignKey("intents.intent_id"), nullable=False, index=True),
        *_texts("symbol", "side", "venue", "order_ref", "cumulative", "cumulative_usd", "qty", "usd"),
        *_numbers("at_ms", "recorded_ms"),
        sa.UniqueConstraint("intent_id", "cumulative", name="uq_hedge_fills_cumulative"),
    )
    op.create_table(
        "hedge_sessions",
        _key("venue"),
        _key("day"),
        *_numbers("open_ms", "close_ms", "pre_open_ms", "post_close_ms", nullable=True),
        *_numbers("read_ms"),
    )
    op.create_table(
        "blocked_symbols",
        _key("symbol"),
        *_texts("why"),
        *_numbers("since_ms", "until_ms"),
        sa.Column("times", sa.Integer(), nullable=False),
    )
    op.create_table("hedge_accounts", _key("name"), *_texts("venue", "account"), *_numbers("since_ms"))
    op.create_table(
        "oauth_tokens",
        _key("name"),
        sa.Column("version", sa.Integer(), nullable=False),
        *_texts("sealed"),
        *_numbers("login_ms", "access_ms"),
    )
    op.create_table(
        "rebalances",
        _key("name"),
        *_texts("scope", "direction", "amount", "state"),
        _json("plan"),
        _json("done"),
        *_texts("why"),
        *_numbers("created_ms", "updated_ms"),
    )
