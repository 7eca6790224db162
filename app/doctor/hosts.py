"""Whether every host answers, how fast, and whether what we ask of it a minute fits what it allows."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import httpx

from app.doctor.frame import Installation, Verdict, check, fail, ok, warn

GROUP = "hosts"
SLOW_MS = 1_000
ASGARD_REQUESTS_PER_TICK = 2
"""The lending position and the prices; lending rates are asked for every few minutes."""
HYPERLIQUID_WEIGHT_PER_TICK = 22
"""The market (20) and the account (2)."""
KEYLESS_PER_MINUTE = 60
NO_SIGNATURE = "1" * 64
"""Base58 of 64 zero bytes: no transaction has it."""


async def _ask(
    url: str,
    setting: str,
    method: str,
    body: dict[str, Any] | None,
    headers: dict[str, str] | None = None,
) -> Verdict:
    """One harmless request in wall time. Only an answer with the figures asked for is one: a host that refuses us, or
    does not know what we ask, is of no use however quickly it says so.
    """
    host = urlsplit(url).netloc.rpartition("@")[2]
    started = time.monotonic()
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            answer = await http.request(method, url, json=body, headers=headers)
    except httpx.HTTPError as error:
        return fail(
            f"{host} does not answer ({type(error).__name__})",
            f"check {setting} and the network of this host; nothing can be traded while it is out of reach",
        )
    took_ms = round((time.monotonic() - started) * 1000)
    if (refused := _refusal(host, setting, answer, rpc=bool(body and "jsonrpc" in body))) is not None:
        return refused
    if took_ms > SLOW_MS:
        return warn(
            f"{host} answers in {took_ms} ms", f"run nearer to the host, or set {setting} to a faster one"
        )
    return ok(f"{host} answers in {took_ms} ms")


def _refusal(host: str, setting: str, answer: httpx.Response, *, rpc: bool) -> Verdict | None:
    status = answer.status_code
    if status >= 500 or status == 429:
        return fail(f"{host} answers HTTP {status}", f"wait for the host, or set {setting} to another")
    if status in (401, 403):
        return fail(
            f"{host} refuses us (HTTP {status})",
            f"check the key that it is asked with (by {setting}), and that its contract allows this address",
        )
    if status != 200:
        return fail(f"{host} answers HTTP {status}", f"check the path in {setting}: the service is not there")
    try:
        answer = answer.json()
    except ValueError:
        return fail(f"{host} answers something else than JSON", f"check {setting}: another service is there")
    if rpc and (not isinstance(answer, dict) or "result" not in answer):
        why = answer.get("error", answer) if isinstance(answer, dict) else answer
        return fail(
            f"{host} cannot do what we ask: {str(why)[:200]}", f"set {setting} to a provider that can"
        )
    return None


@check(GROUP, "hyperliquid answers")
async def hyperliquid(installation: Installation) -> Verdict:
    url = installation.settings.hyperliquid.url
    return await _ask(f"{url}/info", "hyperliquid.url", "POST", {"type": "allMids"})


@check(GROUP, "solana answers")
async def solana(installation: Installation) -> Verdict:
    body = {"jsonrpc": "2.0", "id": 1, "method": "getVersion", "params": []}
    return await _ask(installation.settings.solana.rpc_url, "solana.rpc_url", "POST", body)


@check(GROUP, "second solana provider")
async def second_solana(installation: Installation) -> Verdict:
    url = installation.settings.solana.second_rpc_url
    if not url:
        return warn(
            "only one Solana provider is set",
            "set solana.second_rpc_url: it serves when the first is away, and must agree before an opening is called dead",
        )
    asked = [[NO_SIGNATURE], {"searchTransactionHistory": True}]  # the very thing that it is there for
    body = {"jsonrpc": "2.0", "id": 1, "method": "getSignatureStatuses", "params": asked}
    return await _ask(url, "solana.second_rpc_url", "POST", body)


@check(GROUP, "asgard answers")
async def asgard(installation: Installation) -> Verdict:
    key = installation.settings.secret("asgard")
    headers = {"X-API-Key": key.get_secret_value()} if key else None
    return await _ask(
        f"{installation.settings.asgard.url}/token-metadata", "asgard.url", "GET", None, headers=headers
    )


@check(GROUP, "asgard key")
async def asgard_key(installation: Installation) -> Verdict:
    """A key that is refused answers 401 or 403; without one the service allows a request a second."""
    settings = installation.settings
    key = settings.secret("asgard")
    if key is None:
        if settings.asgard.requests_per_minute > KEYLESS_PER_MINUTE:
            return fail(
                f"no API key, yet asgard.requests_per_minute is {settings.asgard.requests_per_minute:g}",
                f"set EVENKEEL_ASGARD_API_KEY or asgard.api_key_file, or at most {KEYLESS_PER_MINUTE} requests a minute",
            )
        return warn(
            "no API key: one request a second for this address",
            "ask the vendor for a key and set EVENKEEL_ASGARD_API_KEY or asgard.api_key_file",
        )
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        answer = await http.get(
            f"{settings.asgard.url}/token-metadata", headers={"X-API-Key": key.get_secret_value()}
        )
    if answer.status_code in (401, 403):
        return fail(
            f"the API key is refused (HTTP {answer.status_code})",
            "renew the key and set EVENKEEL_ASGARD_API_KEY or asgard.api_key_file",
        )
    if answer.status_code >= 400:
        return warn(
            f"HTTP {answer.status_code} answered to the API key", "try again; if it stays, ask the vendor"
        )
    return ok("the API key is accepted")


@check(GROUP, "rate budgets")
async def budgets(installation: Installation) -> Verdict:
    """What a watch asks for a minute when it ticks fastest, against the budgets that the settings give it."""
    settings = installation.settings
    fastest = "strategy.breach_poll_interval_s"
    every_s = min(settings.strategy.poll_interval_s, settings.strategy.breach_poll_interval_s)
    ticks = 60 / every_s
    needed = ticks * ASGARD_REQUESTS_PER_TICK
    given = settings.asgard.requests_per_minute
    if given < needed:
        return fail(
            f"a watch that ticks every {every_s} s asks Asgard {needed:.0f} times a minute, "
            f"asgard.requests_per_minute allows {given:g}",
            f"raise asgard.requests_per_minute (with an API key), or {fastest}",
        )
    weight = ticks * HYPERLIQUID_WEIGHT_PER_TICK
    if settings.hyperliquid.weight_per_minute < weight:
        return fail(
            f"a watch that ticks every {every_s} s needs a weight of {weight:.0f} a minute on Hyperliquid, "
            f"hyperliquid.weight_per_minute allows {settings.hyperliquid.weight_per_minute:g}",
            f"raise hyperliquid.weight_per_minute (at most 1200), or {fastest}",
        )
    return ok(
        f"a watch in danger uses {needed / given:.0%} of Asgard's budget and "
        f"{weight / settings.hyperliquid.weight_per_minute:.0%} of Hyperliquid's"
    )
