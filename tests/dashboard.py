"""The dashboard for Grafana over what `app/metrics` serves. `python -m tests.dashboard` writes it to where it is shipped."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tests.dashboard_hedging import HEDGING
from tests.dashboard_panels import BYTES, RATIO, SECONDS, USD, Line, Panel

DASHBOARD = Path(__file__).parents[1] / "deploy" / "grafana" / "evenkeel.json"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH, HEIGHT = 8, 8
"""Of a panel, of 24 in a row."""
DANGER = "red"
OF_AN_INTERVAL = ("auto", "auto_count", "auto_min")
"""What the library writes of every variable, and Grafana's schema has of none of ours."""


def of_position(name: str, also: str = "") -> str:
    """A metric of the chosen positions, whichever target serves it."""
    return f'max without (instance) (evenkeel_{name}{{position=~"$position"{also}}})'


def a_year(name: str) -> str:
    """A rate of an hour as one of a year."""
    return f"{of_position(name)} * 8760"


POSITIONS = (
    Panel(
        "Room to liquidation, long",
        RATIO,
        (
            Line(of_position("liquidation_distance_ratio", ',leg="long"'), "{{position}}"),
            Line(of_position("liquidation_limit_ratio", ',leg="long"'), "limit {{position}}", limit=True),
        ),
        "A fall of the price by so much liquidates the long; at its limit it is closed.",
    ),
    Panel(
        "Room to liquidation, short",
        RATIO,
        (
            Line(of_position("liquidation_distance_ratio", ',leg="short"'), "{{position}}"),
            Line(of_position("liquidation_limit_ratio", ',leg="short"'), "limit {{position}}", limit=True),
        ),
        "A rise of the price by so much liquidates the short; at its limit it is closed.",
    ),
    Panel(
        "Since the last look",
        SECONDS,
        (
            Line(of_position("last_tick_seconds"), "{{position}}"),
            Line(of_position("last_tick_limit_seconds"), "limit {{position}}", limit=True),
        ),
        "Beyond its limit nobody watches the position.",
    ),
    Panel(
        "Carry, a year",
        RATIO,
        (
            Line(of_position("total_apr_ratio"), "on both legs' capital {{position}}"),
            Line(a_year("funding_expected_hourly_ratio"), "expected funding {{position}}"),
            Line(a_year("funding_rate_hourly_ratio"), "funding of this hour {{position}}"),
            Line(of_position("net_carry_apr_ratio"), "net carry of the long {{position}}"),
        ),
    ),
    Panel(
        "Lending rates, a year",
        RATIO,
        tuple(
            Line(of_position(f"{one}_apr_ratio"), f"{one} {{{{position}}}}")
            for one in ("borrow", "lend", "staking")
        ),
    ),
    Panel(
        "Carry, an hour",
        USD,
        (Line(of_position("carry_hourly_usd"), "{{position}}"),),
        "At the expected funding and the lending rates of now.",
    ),
    Panel(
        "Net",
        USD,
        (Line(of_position("net_usd"), "{{position}}"),),
        "Result since the entry by the ledger; `evenkeel report` holds it against the venues.",
    ),
    Panel(
        "Earned and paid",
        USD,
        (
            Line(of_position("funding_received_usd"), "funding {{position}}"),
            Line(of_position("lending_earned_usd"), "lending {{position}}"),
            Line(of_position("borrow_interest_usd"), "borrowing {{position}}"),
        ),
    ),
    Panel("Equity", USD, (Line(of_position("equity_usd"), "{{position}}"),)),
    Panel(
        "Delta",
        RATIO,
        (Line(of_position("delta_ratio"), "{{position}}"),),
        "Long less short, as a share of the long.",
    ),
    Panel("SOL at both venues", USD, (Line(of_position("price_usd"), "{{leg}} {{position}}"),)),
    Panel(
        "Staked token over its value",
        RATIO,
        (Line(of_position("token_premium_ratio"), "{{position}}"),),
        "Below zero is a discount.",
    ),
)
VENUES = (
    Panel(
        "Calls a minute",
        "short",
        (Line("sum by (venue) (rate(evenkeel_venue_calls_total[$__rate_interval])) * 60", "{{venue}}"),),
    ),
    Panel(
        "Failures a minute",
        "short",
        (Line("sum by (venue) (rate(evenkeel_venue_failures_total[$__rate_interval])) * 60", "{{venue}}"),),
        "No answer, 429 or 5xx.",
    ),
    Panel(
        "Request weight a minute",
        "short",
        (
            Line("sum by (venue) (rate(evenkeel_venue_weight_total[$__rate_interval])) * 60", "{{venue}}"),
            Line("max by (venue) (evenkeel_venue_weight_limit)", "limit {{venue}}", limit=True),
        ),
        "Of all who watch, as if they had one address.",
    ),
    Panel("Duration of a look", SECONDS, (Line(of_position("tick_duration_seconds"), "{{position}}"),)),
)
LEDGER = (
    Panel(
        "Open alerts",
        "short",
        (Line("max by (severity) (evenkeel_alerts_open)", "{{severity}}"),),
        now=True,
    ),
    Panel(
        "Pauses",
        "short",
        (Line("max by (scope, by) (evenkeel_pause_active)", "{{scope}}, by {{by}}"),),
        now=True,
    ),
    Panel(
        "Unfinished intents",
        "short",
        (Line("max(evenkeel_intents_unfinished)", "orders that are not final"),),
        now=True,
    ),
    Panel(
        "Age of the oldest unfinished intent",
        SECONDS,
        (Line("max(evenkeel_intents_oldest_seconds)", "oldest"), Line("vector(600)", "limit", limit=True)),
    ),
    Panel(
        "Age of the outbox",
        SECONDS,
        (
            Line("max by (channel) (evenkeel_messages_oldest_seconds)", "{{channel}}"),
            Line("vector(900)", "limit", limit=True),
        ),
        "Of the oldest message that is due and not delivered.",
    ),
    Panel(
        "Messages that wait",
        "short",
        (Line("max by (channel) (evenkeel_messages_waiting)", "{{channel}}"),),
    ),
    Panel(
        "Since the sender's last sign of life",
        SECONDS,
        (Line("max(evenkeel_sender_alive_seconds)", "sender"), Line("vector(60)", "limit", limit=True)),
    ),
)
PROCESS = (
    Panel(
        "Heard, and ledger read",
        "short",
        (
            Line('up{job="evenkeel"}', "heard {{instance}}"),
            Line("evenkeel_ledger_up", "ledger read by {{instance}}"),
        ),
        "1 is yes.",
        now=True,
    ),
    Panel(
        "Running for",
        SECONDS,
        (Line('time() - process_start_time_seconds{job="evenkeel"}', "{{instance}}"),),
        now=True,
    ),
    Panel("Memory", BYTES, (Line('process_resident_memory_bytes{job="evenkeel"}', "{{instance}}"),)),
    Panel(
        "Processor",
        RATIO,
        (Line('rate(process_cpu_seconds_total{job="evenkeel"}[$__rate_interval])', "{{instance}}"),),
    ),
    Panel(
        "Open files",
        "short",
        (
            Line('process_open_fds{job="evenkeel"}', "{{instance}}"),
            Line('process_max_fds{job="evenkeel"}', "limit {{instance}}", limit=True),
        ),
    ),
)
ROWS = {"Positions": POSITIONS, "Venues": VENUES, "Ledger": LEDGER, "Hedging": HEDGING, "Process": PROCESS}
ALERTS = "max by (kind, subject, severity, acknowledged) (evenkeel_alert_open)"


def queries() -> list[str]:
    """Return every query that the dashboard makes."""
    return [ALERTS, *(line.expr for panels in ROWS.values() for panel in panels for line in panel.lines)]


def made() -> str:
    """Return the dashboard as Grafana imports it."""
    page = (
        dashboard.Dashboard("evenkeel")
        .uid("evenkeel")
        .description("What the ledger of evenkeel says. Its alerts are in deploy/prometheus/rules.yml.")
        .tags(["evenkeel"])
        .timezone("utc")
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-24h", "now")
        .refresh("30s")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("position")
            .query("label_values(evenkeel_position_info, position)")
            .datasource(SOURCE)
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(models.VariableOption(selected=True, text="All", value="$__all"))
        )
    )
    for title, panels in ROWS.items():
        page = page.with_row(dashboard.Row(title))
        for panel in panels:
            page = page.with_panel(_stat(panel) if panel.now else _series(panel))
        if panels is LEDGER:
            page = page.with_panel(_alerts())
    plain = json.loads(json.dumps(page.build(), cls=JSONEncoder))
    for variable in plain["templating"]["list"]:
        for name in OF_AN_INTERVAL:
            variable.pop(name, None)
    return json.dumps(plain, indent=1, sort_keys=True) + "\n"


def _query(line: Line, at: int) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(line.expr).legend_format(line.name).ref_id(chr(ord("A") + at))


def _series(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.text)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(WIDTH)
        .height(HEIGHT)
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
        .legend(common.VizLegendOptions().show_legend(True).calcs(["lastNotNull"]))
    )
    for at, line in enumerate(panel.lines):
        built = built.with_target(_query(line, at))
        if line.limit:
            style = [
                models.DynamicConfigValue(
                    id_val="custom.lineStyle", value={"fill": "dash", "dash": [10, 10]}
                ),
                models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": DANGER}),
            ]
            built = built.override_by_query(chr(ord("A") + at), style)
    return built


def _stat(panel: Panel) -> stat.Panel:
    built = (
        stat.Panel()
        .title(panel.title)
        .description(panel.text)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(WIDTH)
        .height(HEIGHT // 2)
        .no_value("none")
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color("text"))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    for at, line in enumerate(panel.lines):
        built = built.with_target(_query(line, at))
    return built


def _alerts() -> table.Panel:
    return (
        table.Panel()
        .title("Alerts that are open now")
        .datasource(SOURCE)
        .span(2 * WIDTH)
        .height(HEIGHT)
        .no_value("none")
        .show_header(True)
        .with_target(prometheus.Dataquery().expr(ALERTS).instant().format(PromQueryFormat.TABLE).ref_id("A"))
    )


def main() -> None:
    """Write the file."""
    DASHBOARD.parent.mkdir(exist_ok=True)
    DASHBOARD.write_text(made())


if __name__ == "__main__":
    main()
