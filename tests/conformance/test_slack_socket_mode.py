"""The twin's Socket Mode, tried with the four clients of Slack's own library as they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.aiohttp import SocketModeClient as AiohttpClient
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.socket_mode.websocket_client import SocketModeClient as WebsocketClientClient
from slack_sdk.socket_mode.websockets import SocketModeClient as WebsocketsClient
from slack_sdk.web.async_client import AsyncWebClient

from twins.faults import Fault
from twins.http import served, served_in_thread
from twins.slack import SlackTwin

USER = "U0OPERATOR1"
STEPS = 2_000


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, from outside of the server's thread."""
    for _ in range(STEPS):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come about")


async def come(condition: Callable[[], bool]) -> None:
    for _ in range(STEPS):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


@contextmanager
def connected(kind: type[Any], acks: bool = True) -> Iterator[tuple[SlackTwin, Any, list[Any]]]:
    """A client of threads, its twin, and what it was sent."""
    twin, got = SlackTwin(), []
    twin.socket.ack_s = 0.3
    with served_in_thread(twin.app) as base:
        web = WebClient(token=twin.token, base_url=f"{base}/api/")
        client = kind(app_token=twin.socket.token, web_client=web, ping_interval=1)

        def take(client: Any, request: Any) -> None:
            got.append(request)
            if acks:
                client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))

        client.socket_mode_request_listeners.append(take)
        client.connect()
        try:
            until(lambda: twin.socket.connections == 1)
            yield twin, client, got
        finally:
            client.close()


@asynccontextmanager
async def connected_async(kind: type[Any]) -> AsyncIterator[tuple[SlackTwin, Any, list[Any]]]:
    """A client of the event loop, its twin, and what it was sent."""
    twin, got = SlackTwin(), []
    async with served(twin.app) as base:
        web = AsyncWebClient(token=twin.token, base_url=f"{base}/api/")
        client = kind(app_token=twin.socket.token, web_client=web, ping_interval=1)

        async def take(client: Any, request: Any) -> None:
            got.append(request)
            await client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))

        client.socket_mode_request_listeners.append(take)
        await client.connect()
        try:
            await come(lambda: twin.socket.connections == 1)
            yield twin, client, got
        finally:
            await client.close()


THREADED = [SocketModeClient, WebsocketClientClient]
ASYNC = [AiohttpClient, WebsocketsClient]


@pytest.mark.parametrize("kind", THREADED, ids=["builtin", "websocket-client"])
def test_a_client_of_threads_gets_commands_and_buttons_and_reconnects(kind: type[Any]) -> None:
    with connected(kind) as (twin, _, got):
        twin.socket.command(USER, "status")
        until(lambda: len(got) == 1 and twin.socket.envelopes[0].state == "acknowledged")
        assert (got[0].type, got[0].payload["text"], got[0].payload["user_id"]) == (
            "slash_commands",
            "status",
            USER,
        )
        web = WebClient(token=twin.token, base_url=f"{twin.socket.base}api/")
        button = {
            "type": "button",
            "text": {"type": "plain_text", "text": "Seen"},
            "action_id": "seen",
            "value": "7",
        }
        web.chat_postMessage(
            channel="C0TWIN00001", text="t", blocks=[{"type": "actions", "elements": [button]}]
        )
        twin.socket.press(USER, twin.shown()[0], "seen")
        until(lambda: len(got) == 2)
        assert got[1].type == "interactive" and got[1].payload["actions"][0]["value"] == "7"
        for reason in ("refresh_requested", "warning"):
            before = twin.socket.opened
            twin.socket.disconnect(reason)
            until(lambda before=before: twin.socket.opened > before)  # type: ignore[misc]
            until(lambda: twin.socket.connections == 1)
        sent = twin.socket.command(USER, "after")
        until(lambda: sent.state == "acknowledged")


@pytest.mark.parametrize("kind", ASYNC, ids=["aiohttp", "websockets"])
async def test_a_client_of_the_event_loop_gets_commands_and_reconnects(kind: type[Any]) -> None:
    async with connected_async(kind) as (twin, _, got):
        sent = twin.socket.command(USER, "pause")
        await come(lambda: sent.state == "acknowledged")
        assert got[0].payload["text"] == "pause" and got[0].accepts_response_payload
        before = twin.socket.opened
        twin.socket.disconnect("refresh_requested")
        await come(lambda: twin.socket.opened > before and twin.socket.connections == 1)
        again = twin.socket.command(USER, "after")
        await come(lambda: again.state == "acknowledged")


def test_a_connection_that_drops_is_opened_again() -> None:
    with connected(SocketModeClient) as (twin, _, _got):
        twin.socket.drop()
        until(lambda: twin.socket.opened == 2 and twin.socket.connections == 1)
        sent = twin.socket.command(USER, "after")
        until(lambda: sent.state == "acknowledged")


def test_what_is_not_acknowledged_is_sent_again_and_the_person_is_shown_so() -> None:
    with connected(SocketModeClient, acks=False) as (twin, _, got):
        sent = twin.socket.command(USER, "status")
        until(lambda: sent.state == "operation_timeout")
        assert len(got) == 3 and {one.envelope_id for one in got} == {sent.envelope_id}
        assert [one.retry_attempt for one in got] == [None, 1, 2] and got[2].retry_reason == "timeout"


def test_an_acknowledgement_that_is_lost_and_an_envelope_sent_twice() -> None:
    with connected(SocketModeClient) as (twin, _, got):
        twin.faults.add(Fault("slack", "ack_lost"))
        sent = twin.socket.command(USER, "status")
        until(lambda: sent.state == "acknowledged")
        assert len(got) == 2
        twin.faults.add(Fault("slack", "envelope_twice", args={"other_id": True}))
        twin.socket.command(USER, "pause")
        until(lambda: len(got) == 4)
        assert got[2].payload["trigger_id"] == got[3].payload["trigger_id"]
        assert got[2].envelope_id != got[3].envelope_id


def test_a_command_without_a_connection_fails_at_once() -> None:
    assert SlackTwin().socket.command(USER, "status").state == "dispatch_failed"


def test_only_the_app_token_opens_a_connection() -> None:
    twin = SlackTwin()
    with served_in_thread(twin.app) as base:
        web = WebClient(base_url=f"{base}/api/")
        for token, error in (("xoxb-twin-token", "not_allowed_token_type"), ("xapp-other", "invalid_auth")):
            with pytest.raises(SlackApiError) as refused:
                web.apps_connections_open(app_token=token)
            assert refused.value.response["error"] == error
        assert web.apps_connections_open(app_token=twin.socket.token)["url"].startswith("ws://127.0.0.1:")


def test_a_response_url_is_good_for_five_answers_and_half_an_hour() -> None:
    from slack_sdk.webhook import WebhookClient

    with connected(SocketModeClient) as (twin, _, got):
        twin.socket.command(USER, "status")
        until(lambda: len(got) == 1)
        answering = WebhookClient(got[0].payload["response_url"])
        assert [answering.send(text=f"{n}", response_type="ephemeral").status_code for n in range(6)] == [
            200
        ] * 5 + [404]
        assert [one["text"] for one in twin.socket.answers_to(USER)] == list("01234")
        twin.socket.command(USER, "status")
        until(lambda: len(got) == 2)
        twin.socket.expire_responses()
        late = WebhookClient(got[1].payload["response_url"]).send(text="late")
        assert late.status_code == 404 and "expired_url" in late.body
