"""What `evenkeel up` runs, and in which order: one line of the supervisor's configuration a program."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from configparser import RawConfigParser
from dataclasses import dataclass, field
from pathlib import Path

from app.prefect_server import CLIENT_SETTINGS, SERVER_SETTINGS

POOL = "evenkeel"
TWINS, SERVER, DESK, SERVICE = "twins", "server", "desk", "service"
OF_FOLDER = "PAPER_TRADING_FOLDER"
"""Says in the environment of every process whose it is."""


@dataclass(frozen=True)
class Program:
    """One process. It is started again where it ends by itself, but for the venues: their world ends with them."""

    name: str
    arguments: tuple[str, ...]
    says: str
    again: bool = True
    more: Mapping[str, str] = field(default_factory=dict)


def programs(
    folder: Path,
    port: int,
    speed: float,
    usdc: str,
    desk_port: int,
    *,
    hedging: bool = False,
    service_port: int | None = None,
) -> list[Program]:
    """Every program, in the order in which they are started. With a `service_port` managed accounts are among them."""
    evenkeel = ("-m", "app.cli")
    address = f"http://127.0.0.1:{port}"
    return [
        Program(
            TWINS,
            (
                *evenkeel,
                "twins",
                "serve",
                "--start",
                "now",
                "--speed",
                f"{speed:g}",
                "--usdc",
                usdc,
                "--write",
                str(folder),
                *(("--hedging",) if hedging else ()),
                *(() if service_port is None else ("--ostium",)),
            ),
            "the venues: local twins with test money",
            again=False,
        ),
        Program(
            SERVER,
            (*evenkeel, "server", "--port", str(port)),
            "Prefect: schedules and UI",
            more={**SERVER_SETTINGS, "PREFECT_UI_API_URL": f"{address}/api"},
        ),
        Program(
            "worker",
            ("-m", "prefect", "worker", "start", "--pool", POOL),
            "runs what is scheduled or asked for",
        ),
        Program(
            "monitors",
            ("-m", "flows.serve"),
            "looks at every open position" + (" and hedges fills" if hedging else ""),
        ),
        Program("watchdog", (*evenkeel, "watchdog"), "sees to it that somebody looks"),
        Program("sender", (*evenkeel, "send"), "delivers alerts and moves of positions"),
        Program(
            DESK,
            (*evenkeel, "desk"),
            f"web pages at http://127.0.0.1:{desk_port}/",
            more={"EVENKEEL_PAGES__PORT": str(desk_port)},
        ),
        *([] if service_port is None else [_service(service_port)]),
    ]


def _service(port: int) -> Program:
    return Program(
        SERVICE,
        ("-m", "app.cli", "accounts", "serve"),
        f"managed accounts at http://127.0.0.1:{port}/",
        more={"EVENKEEL_SERVICE__PORT": str(port)},
    )


def environment(folder: Path, port: int) -> dict[str, str]:
    """What every program is given beside what the caller has."""
    return {
        **CLIENT_SETTINGS,
        "EVENKEEL_CONFIG": str(folder / "evenkeel.toml"),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "evenkeel",
        "PYTHONUNBUFFERED": "1",
        OF_FOLDER: str(folder),
    }


def configuration(folder: Path, socket: Path, port: int, all_of: list[Program]) -> str:
    """The supervisor's configuration: nothing starts by itself, and each program writes a log of its own."""
    found = RawConfigParser()
    found["supervisord"] = {
        "logfile": _quoted(folder / "logs" / "supervisor.log"),
        "pidfile": _quoted(folder / "supervisor.pid"),
        "childlogdir": _quoted(folder / "logs"),
        "directory": _quoted(Path(__file__).resolve().parents[2]),
        "environment": ",".join(
            f'{name}="{_quoted(value)}"' for name, value in environment(folder, port).items()
        ),
    }
    found["unix_http_server"] = {"file": _quoted(socket), "chmod": "0700"}
    found["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for one in all_of:
        words = " ".join(f'"{_quoted(word)}"' for word in (sys.executable, *one.arguments))
        found[f"program:{one.name}"] = {
            "command": words,
            "autostart": "false",
            "autorestart": "true" if one.again else "false",
            "startsecs": "3",
            "startretries": "1000000",
            "stopasgroup": "true" if one.name == "worker" else "false",
            "killasgroup": "true",
            "stopwaitsecs": "20",
            "stdout_logfile": _quoted(folder / "logs" / f"{one.name}.log"),
            "redirect_stderr": "true",
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "1",
            **(
                {"environment": ",".join(f'{name}="{_quoted(value)}"' for name, value in one.more.items())}
                if one.more
                else {}
            ),
        }
    lines: list[str] = []
    for section in found.sections():
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in found[section].items()), ""]
    return "\n".join(lines)


def _quoted(value: object) -> str:
    """A per cent sign begins an expansion of the supervisor's."""
    return str(value).replace("%", "%%")
