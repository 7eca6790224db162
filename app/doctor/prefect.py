"""Whether Prefect is there in the version we are pinned to, and can never start a server of its own by accident."""

from __future__ import annotations

import json
import os
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import httpx

from app.doctor.frame import Installation, Verdict, check, fail, ok, warn
from app.prefect_server import SERVER_SETTINGS, assumed, server_url

GROUP = "prefect"
EPHEMERAL = "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"
LEASE_STORAGE = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"


def pinned() -> str | None:
    """The version that this program is written for."""
    try:
        wanted = requires("evenkeel") or []
    except PackageNotFoundError:
        return None
    for one in wanted:
        name, _, pin = one.partition("==")
        if name.strip() == "prefect":
            return pin.partition(";")[0].strip()
    return None


def _profile() -> dict[str, str]:
    """The settings of Prefect's active profile, as `prefect config set` writes them; nothing where there is none."""
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    try:
        answer = tomllib.loads(
            Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml")).expanduser().read_text()
        )
        active = os.environ.get("PREFECT_PROFILE") or answer.get("active", "")
        return dict(answer.get("profiles", {}).get(active, {}))
    except (OSError, ValueError):
        return {}


@check(GROUP, "server")
async def server(installation: Installation) -> Verdict:
    url = server_url(installation.settings)
    if not url:
        return warn(
            "no Prefect server is set: flows run bare, without schedules and without the UI",
            "start one (docs/runbook.md) and set prefect.api_url",
        )
    try:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
            healthy = (await http.get(f"{url}/health")).status_code == 200
            theirs = str((await http.get(f"{url}/admin/version")).json()) if healthy else ""
            leases = _lease_storage((await http.get(f"{url}/admin/settings")).text) if healthy else ""
    except (httpx.HTTPError, ValueError) as error:
        return fail(
            f"{url} does not answer ({type(error).__name__})",
            "start the Prefect server; exits and `evenkeel flatten --all` work without it, schedules do not",
        )
    if not healthy:
        return fail(f"{url} is not healthy", "look at the server's log")
    pin = pinned()
    if pin is not None and theirs != pin:
        return fail(
            f"the server is {theirs}, this program is pinned to {pin}",
            f"install prefect=={pin} for the server",
        )
    if leases.endswith(".memory"):
        return fail(
            f"{url} keeps concurrency leases in memory: a run that dies before it begins blocks its deployment for ever",
            f"start the server with {LEASE_STORAGE}={SERVER_SETTINGS[LEASE_STORAGE]}",
        )
    return ok(f"{url} answers, version {theirs}")


def _lease_storage(answer: str) -> str:
    """The module in which the server keeps its concurrency leases; empty where it does not say."""
    try:
        return str(json.loads(answer)["server"]["concurrency"]["lease_storage"])
    except (ValueError, KeyError, TypeError):
        return ""


@check(GROUP, "client")
async def client(installation: Installation) -> Verdict:
    """The installed version, and that a flow without a server fails instead of starting one of its own. What counts is
    what other processes of this user find, not what this command set for itself.
    """
    pin, installed = pinned(), version("prefect")
    if pin is not None and installed != pin:
        return fail(f"prefect {installed} is installed, {pin} is pinned", "install from requirements.lock")
    said = _profile().get(EPHEMERAL, "") if EPHEMERAL in assumed else os.environ.get(EPHEMERAL, "")
    if str(said).lower() not in ("false", "0"):
        return warn(
            f"{EPHEMERAL} is not false here: a flow that finds no server starts one of its own",
            f"set {EPHEMERAL}=false wherever flows run: `prefect config set {EPHEMERAL}=false`, or in the environment of "
            "the worker and of `python -m flows.serve`",
        )
    return ok(f"prefect {installed}, no ephemeral server")
