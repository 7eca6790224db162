"""The control endpoint of the twins: clock, world, fault plans, call journal, accounts and ledgers. Never a venue's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from twins.faults import Fault, FaultPlan
from twins.world import World

Control = Callable[[str, dict[str, Any]], dict[str, Any]]


def control_app(
    world: World,
    faults: FaultPlan,
    venues: dict[str, Control],
    catch_up: Callable[[], None],
    stop: Callable[[], None],
) -> Starlette:
    """Return routes under /control. `venues` maps a twin's name to its `control(op, body)`; `catch_up` brings all to
    now.
    """

    async def clock(request: Request) -> Response:
        if request.method == "POST":
            body = await request.json()
            if "speed" in body:
                world.clock.set_speed(float(body["speed"]))
            if "stepped" in body:
                world.clock.stepped = bool(body["stepped"])
            if "host_ahead_s" in body:
                world.clock.host_ahead_ms = 1000 * float(body["host_ahead_s"])
        return JSONResponse(world.clock.anchor())

    async def advance(request: Request) -> Response:
        body = await request.json()
        if "until_ms" in body:
            until = float(body["until_ms"]) - world.clock.host_ahead_ms  # a client's time is the host's
        else:
            until = world.now_ms() + 1000 * float(body["seconds"])
        world.clock.advance_to(min(until, world.series.end_ms))
        return JSONResponse(world.clock.anchor())

    async def fault_plan(request: Request) -> Response:
        if request.method == "POST":
            try:
                faults.add(Fault(**await request.json()))
            except (TypeError, ValueError) as error:
                return JSONResponse({"error": f"not a fault plan: {error}"}, status_code=422)
        elif request.method == "DELETE":
            faults.clear()
        return JSONResponse(faults.describe())

    async def overrides(request: Request) -> Response:
        if request.method == "POST":
            catch_up()  # time that has passed is settled by the market as it was
            for name, value in (await request.json()).items():
                if not hasattr(world.overrides, name):
                    return JSONResponse({"error": f"the world has no override {name!r}"}, status_code=422)
                setattr(world.overrides, name, value)
        now = world.now_ms()
        state = {
            "now_ms": now,
            "source": world.series.source,
            "sol_price": world.sol_price(now),
            "premium": world.premium(now),
        }
        return JSONResponse(state | {"overrides": asdict(world.overrides)})

    async def calls(request: Request) -> Response:
        if request.method == "DELETE":
            faults.calls.clear()
        return JSONResponse(list(faults.calls))

    async def venue(request: Request) -> Response:
        found = venues.get(request.path_params["venue"])
        if found is None:
            return JSONResponse(
                {"error": f"no twin is named {request.path_params['venue']!r}"}, status_code=404
            )
        text = await request.body()
        try:
            answer = found(request.path_params["op"], json.loads(text) if text else {})
        except (KeyError, ValueError) as error:
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, status_code=422)
        return Response(json.dumps(answer, default=str), media_type="application/json")

    async def ledger(request: Request) -> Response:
        dump = {name: control("ledger", {}) for name, control in venues.items()}
        return Response(json.dumps(dump, default=str), media_type="application/json")

    async def shut_down(request: Request) -> Response:
        stop()
        return JSONResponse({"stopping": True})

    return Starlette(
        routes=[
            Route("/control/clock", clock, methods=["GET", "POST"]),
            Route("/control/clock/advance", advance, methods=["POST"]),
            Route("/control/faults", fault_plan, methods=["GET", "POST", "DELETE"]),
            Route("/control/world", overrides, methods=["GET", "POST"]),
            Route("/control/calls", calls, methods=["GET", "DELETE"]),
            Route("/control/ledger", ledger, methods=["GET"]),
            Route("/control/stop", shut_down, methods=["POST"]),
            Route("/control/{venue}/{op}", venue, methods=["POST"]),
        ]
    )
