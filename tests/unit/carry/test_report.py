"""The report says the result, every item with its sign, and whether books and venues agree."""

from __future__ import annotations

import io
import json
from decimal import Decimal

from rich.console import Console

from analytics.carry.agreement import compare_funding
from analytics.carry.attribution import ITEMS
from analytics.carry.equity import Naked
from analytics.carry.life import LifeEvent
from analytics.carry.report import (
    Report,
    agreement_lines,
    as_dict,
    render_markdown,
    render_rich,
    result_sentence,
    trades_of,
)
from analytics.carry.waiting import moved_before_long, moved_before_short
from analytics.carry.words import GROUPS, ITEM_MEANINGS, ITEM_NAMES, signed_usd
from tests.carry.lives import T0, attributed, payment, whole_life

D = Decimal
HOUR_MS = 3_600_000


def report(**changes: object) -> Report:
    books, fills, funding, venue = whole_life()
    base = Report(
        position_id="carry-1",
        title="SOL carry: jitoSOL on Kamino, 3x",
        status="CLOSED",
        opened_ms=T0,
        ended_ms=T0 + 100 * HOUR_MS,
        attribution=attributed(books, fills, funding, venue),
        exit_reason="expected carry is negative",
        trades=trades_of(books.events, fills, "jitoSOL"),
        events=[LifeEvent(at_ms=T0, kind="enter", label="entered | twice looked at")],
        rows_compared=7,
        naked=Naked(total_seconds=31.0, longest_seconds=20.0),
        funding_apr=0.1095,
        facts={"rebalances": "1"},
    )
    return base.model_copy(update=changes)


def short_of_one_payment() -> Report:
    books, fills, funding, venue = whole_life()
    return report(
        attribution=attributed(books, fills, funding[1:], venue),
        differences=compare_funding(funding[1:], funding),
    )


def render_text(report: Report, width: int) -> str:
    """As a terminal of this width shows it, without colours."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(render_rich(report))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def test_every_item_has_a_name_a_meaning_and_one_group() -> None:
    assert set(ITEM_NAMES) == set(ITEM_MEANINGS) == set(ITEMS)
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(ITEMS)


def test_text_holds_every_item_with_its_sign_and_fits_the_width() -> None:
    shown_report = report()
    for width in (80, 100):
        text = render_text(shown_report, width)
        assert max(map(len, text.splitlines())) <= width
        money = text[text.index("Earned and paid") :].splitlines()
        for name in ITEMS:
            line = next(line for line in money if line.strip().startswith(ITEM_NAMES[name]))
            assert signed_usd(shown_report.attribution.items[name]) in line
        assert "Books and venues agree: residual 0.00 USD." in text
        assert "7 rows compared with the venues' ledgers, all equal." in text
        assert "31 s, longest 20 s" in text
        assert "\x1b" not in text


def test_groups_sum_to_the_net_result_as_shown() -> None:
    found = report().attribution
    total = sum((found.items[name] for names in GROUPS.values() for name in names), D(0))
    assert total == found.net_usd


def test_result_in_one_sentence() -> None:
    shown_report = report()
    net = shown_report.attribution.net_usd
    assert result_sentence(shown_report).startswith(
        f"Earned {net:,.2f} USD net on 5,000.00 USD of capital in 100.0 hours"
    )
    assert "a year" not in result_sentence(shown_report)
    month = shown_report.attribution.model_copy(update={"holding_hours": D(720)})
    assert f"{net / 5000 * 8760 / 720 * 100:+.1f} % a year" in result_sentence(report(attribution=month))
    loss = shown_report.attribution.model_copy(
        update={"items": {**shown_report.attribution.items, "gas": -net - D("3.21")}, "holding_hours": D(2)}
    )
    sentence = result_sentence(report(attribution=loss))
    assert sentence.startswith("Lost ")
    assert "a year" not in sentence
    still = shown_report.attribution.model_copy(update={"is_open": True})
    assert result_sentence(report(attribution=still)).startswith("Earned so far ")


def test_before_thirty_days_the_carry_stands_against_its_costs() -> None:
    found = report().attribution
    carry, costs = found.carry_usd, -found.costs_usd
    assert carry > 0 and costs > 0
    assert result_sentence(report()).endswith(
        f"Carry {signed_usd(carry)} USD against costs of {costs:,.2f} USD: at this pace it pays them after "
        f"{100 * costs / carry:,.0f} hours."
    )
    paid = found.model_copy(update={"items": {**found.items, "funding": -D(50)}})
    assert result_sentence(report(attribution=paid)).endswith("at this pace it never pays them.")
    free = found.model_copy(update={"items": {name: D(0) for name in found.items} | {"funding": D(5)}})
    assert result_sentence(report(attribution=free)).endswith("Carry +5.00 USD, and no costs.")


def test_a_missing_payment_is_named_with_place_and_amount() -> None:
    lines = agreement_lines(short_of_one_payment())
    assert lines[0].startswith("Books and venues DIFFER: residual +0.09 USD")
    assert "Hyperliquid +0.09, Solana 0.00, gas 0.00" in lines[0]
    assert "1 missing in books" in lines[1]
    assert "funding SOL" in lines[2] and "0.093" in lines[2]


def test_agreement_needs_rows_and_books_too_not_the_residual_alone() -> None:
    one_missing = compare_funding([], [payment(0, "0")])
    assert agreement_lines(report(differences=one_missing))[0].startswith("Books and venues DIFFER")
    found = report().attribution.model_copy(update={"checks": ["fill 3 is in the books twice"]})
    lines = agreement_lines(report(attribution=found))
    assert lines[0].startswith("Books and venues DIFFER")
    assert "- fill 3 is in the books twice" in lines


def test_long_lists_are_cut_for_people_and_whole_for_programs() -> None:
    missing = compare_funding([], [payment(hour, "1") for hour in range(50)])
    shown_report = report(differences=missing)
    assert agreement_lines(shown_report)[-1] == "- and 30 more"
    assert len(as_dict(shown_report)["differences"]) == 50


def test_markdown_tables_keep_their_columns() -> None:
    text = render_markdown(report())
    assert text.startswith("# SOL carry")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {3, 4, 8}
    assert "- 2027-01-15 08:00:00 entered | twice looked at" in text


def test_trades_come_in_order_with_their_price() -> None:
    trades = report().trades
    assert [trade.at_ms for trade in trades] == sorted(trade.at_ms for trade in trades)
    opened = next(trade for trade in trades if trade.what == "long open: buy jitoSOL")
    assert abs(opened.price_usd - D(180) * D("1.0007")) < D("1e-9")
    assert opened.fee_usd == 2
    assert sum(trade.what.startswith("short: sell") for trade in trades) == 2


def test_dict_survives_json_and_keeps_money_exact() -> None:
    body = json.loads(json.dumps(as_dict(report())))
    assert body["agrees"] is True
    assert body["attribution"]["funding"] == "0.172000"
    assert body["attribution"]["residual_usd"] == "0.000000"
    assert set(ITEMS) < set(body["attribution"])
    assert body["capital_usd"] == "5000.000000"
    assert body["naked"]["longest_seconds"] == 20.0


def test_signed_usd_keeps_sign_and_small_amounts() -> None:
    assert signed_usd(D("1234.5")) == "+1,234.50"
    assert signed_usd(D("-0.0042")) == "-0.0042"
    assert signed_usd(D("-0.00000001")) == "0.00"
    assert signed_usd(D(0)) == "0.00"


def test_trades_show_the_price_at_the_decision_when_sent_and_what_they_got() -> None:
    """SOL moved from 148 at the decision to 149 when the order was sent and 150 when it settled; the swap itself cost 0.1."""
    books, fills, *_ = whole_life()
    bought = books.events[0].model_copy(update={"decided_sol_usd": D(148), "sent_sol_usd": D(149)})
    sold = fills[0].model_copy(update={"index_price_usd": D("149.9"), "decided_sol_usd": D("149.4")})
    long, short = trades_of([bought], [sold], "jitoSOL")
    if short.what.startswith("long"):
        long, short = short, long
    assert (long.decided_usd, long.sent_usd) == (D("177.6"), D("178.8"))
    assert short.sent_usd == 150 and short.decided_usd == 150 * D("149.4") / D("149.9")
    assert moved_before_long([bought]) == -bought.change.swap_token_qty * D("1.2") * 2
    assert moved_before_short([sold]) == sold.fill.qty * D("0.5")
    assert moved_before_long(books.events) is None and moved_before_short(fills) is None
    shown = report(trades=[long, short], moved_before_long_usd=D("-3.5"), moved_before_short_usd=D("2"))
    assert "SOL moved long -3.50, short +2.00 USD: in prices, not in slippage" in render_text(shown, 120)
    assert "| 177.600 | 178.800 |" in render_markdown(shown)
    body = json.loads(json.dumps(as_dict(shown)))
    assert body["trades"][0]["decided_usd"] == "177.600000" and body["moved_before_short_usd"] == "2.000000"
