"""Managed accounts: users, agents, deployments, trades, settlements and charges."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _texts(*names: str, nullable: bool = False) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=nullable) for name in names]


def _times(*names: str, nullable: bool = False) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=nullable) for name in names]


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "users", sa.Column("account", sa.Text(), primary_key=True), *_texts("name"), *_times("created_ms")
    )
    op.create_table(
        "agents",
        sa.Column("agent_id", sa.Text(), primary_key=True),
        *_texts("venue", "key_address", "share", "fee_model"),
        sa.Column("rules", sa.JSON(), nullable=False),
        *_times("created_ms"),
    )
    op.create_table(
        "deployments",
        sa.Column("deployment_id", sa.Text(), primary_key=True),
        sa.Column("account", sa.Text(), sa.ForeignKey("users.account"), nullable=False),
        sa.Column("agent_id", sa.Text(), sa.ForeignKey("agents.agent_id"), nullable=False),
        *_texts("state"),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("seen", sa.JSON(), nullable=False),
        *_texts("result_usdc", "high_water_usdc"),
        *_times("created_ms", "updated_ms"),
        sa.UniqueConstraint("account", "agent_id", name="uq_deployments_agent"),
    )
    op.create_index("ix_deployments_state", "deployments", ["state"])
    op.create_table(
        "account_trades",
        sa.Column("name", sa.Text(), primary_key=True),
        *_texts("chain", "venue", "account"),
        *_texts("deployment_id", nullable=True),
        *_texts("origin", "state"),
        *_texts("trade_id", nullable=True),
        sa.Column("pair", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=True),
        sa.Column("is_long", sa.Boolean(), nullable=False),
        *_texts("leverage", "collateral_usdc", "paid_usdc", "asset_qty"),
        *_texts("open_price", "best_price", "stop", nullable=True),
        *_texts("stop_by", "result_usdc"),
        *_times("opened_ms", "closed_ms", nullable=True),
        *_times("created_ms", "updated_ms"),
    )
    known = sa.text("trade_id IS NOT NULL")
    op.create_index(
        "uq_account_trades_id",
        "account_trades",
        ["chain", "venue", "trade_id"],
        unique=True,
        sqlite_where=known,
        postgresql_where=known,
    )
    for column in ("account", "state"):
        op.create_index(f"ix_account_trades_{column}", "account_trades", [column])
    op.create_table(
        "settlements",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        *_texts("chain", "order_id"),
        sa.Column("trade", sa.Text(), sa.ForeignKey("account_trades.name"), nullable=True),
        *_texts("account", "kind", "why"),
        *_texts("price", "share", nullable=True),
        *_texts("paid_usdc", "fee_usdc"),
        *_texts("profit_usdc", nullable=True),
        *_times("block"),
        *_texts("block_hash", "transaction"),
        sa.Column("log_index", sa.Integer(), nullable=False),
        *_times("at_ms"),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("is_live", sa.Boolean(), nullable=False),
        *_times("reversal_of", nullable=True),
    )
    live = sa.text("is_live")
    op.create_index(
        "uq_settlements_order",
        "settlements",
        ["chain", "order_id"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
    op.create_index("ix_settlements_block", "settlements", ["chain", "block"])
    op.create_table(
        "charges",
        sa.Column("charge_id", sa.Text(), primary_key=True),
        *_texts("chain", "order_id"),
        sa.Column("deployment_id", sa.Text(), sa.ForeignKey("deployments.deployment_id"), nullable=False),
        *_texts("account", "base_usdc", "share", "usdc", "state", "why"),
        *_texts("transaction", nullable=True),
        *_times("created_ms", "updated_ms"),
    )
    op.create_index("ix_charges_state", "charges", ["state"])
    open_one = sa.text("state <> 'REVERSED'")
    op.create_index(
        "uq_charges_order",
        "charges",
        ["chain", "order_id"],
        unique=True,
        sqlite_where=open_one,
        postgresql_where=open_one,
    )
