"""The dashboard's panels of hedged market making."""

from __future__ import annotations

from tests.dashboard_panels import RATIO, SECONDS, USD, Line, Panel

HEDGING = (
    Panel(
        "Open shares",
        "short",
        (Line("max by (symbol) (evenkeel_hedging_open_shares)", "{{symbol}}"),),
        "Of fills that no hedge covers; below zero a hedge buys.",
    ),
    Panel(
        "Open, USD",
        USD,
        (
            Line("max by (symbol) (evenkeel_hedging_open_usd)", "{{symbol}}"),
            Line("sum(abs(max by (symbol) (evenkeel_hedging_open_usd)))", "all, both ways"),
        ),
    ),
    Panel(
        "Since the oldest open fill",
        SECONDS,
        (Line("max by (symbol) (evenkeel_hedging_open_seconds)", "{{symbol}}"),),
    ),
    Panel(
        "Since the last good pass",
        SECONDS,
        (
            Line("max(evenkeel_hedging_last_pass_seconds)", "last pass"),
            Line("max(evenkeel_hedging_last_pass_limit_seconds)", "limit in an open market", limit=True),
        ),
    ),
    Panel(
        "Fills on chain an hour",
        "short",
        (Line("max by (symbol) (delta(evenkeel_hedging_fills[1h]))", "{{symbol}}"),),
    ),
    Panel(
        "Earned",
        USD,
        (
            Line("max by (bucket) (evenkeel_hedging_earned_usd)", "{{bucket}}"),
            Line("- max(evenkeel_hedging_fees_usd)", "fees"),
        ),
        "Before fees, by what it was earned by; pairing is made anew once a minute at most.",
    ),
    Panel(
        "Spread of what was traded on chain",
        RATIO,
        (
            Line(
                'max(evenkeel_hedging_earned_usd{bucket="spread"}) / (max(evenkeel_hedging_traded_usd) > 0)',
                "spread",
            ),
        ),
    ),
    Panel(
        "Orders under way",
        "short",
        (
            Line("max(evenkeel_hedging_orders_open)", "orders"),
            Line("max(evenkeel_hedging_symbols_blocked)", "symbols that get none"),
        ),
        now=True,
    ),
    Panel(
        "Age of the oldest order under way",
        SECONDS,
        (Line("max(evenkeel_hedging_order_oldest_seconds)", "oldest"),),
    ),
    Panel(
        "Streams, and blocks behind",
        "short",
        (
            Line("max by (stream) (evenkeel_hedging_stream_up)", "{{stream}} pushes"),
            Line("max by (chain) (evenkeel_hedging_behind_blocks)", "behind {{chain}}"),
        ),
        "A stream that is down costs seconds: passes go on by their timer.",
        now=True,
    ),
)
