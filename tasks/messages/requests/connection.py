"""The connection by which requests reach us: Socket Mode, opened by us, so that no port of ours has to be open.

Slack's own client keeps it: it pings, opens another connection when Slack asks for one, and acknowledges from a thread of its
own, whatever else this process does. What is known of it: it does not begin by itself where the first address is refused, and
it has been seen to stay without a connection; a client that has none for a minute is replaced.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import SecretStr
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.webhook import WebhookClient

from evenkeel.errors import OperatorError, Retryable
from evenkeel.settings.settings import Settings
from tasks.messages.choose import wait_s
from tasks.messages.requests.buttons import answer_blocks
from tasks.messages.requests.handling import Given, Handler, Reply
from tasks.messages.slack import escaped

log = logging.getLogger("evenkeel.requests")
T = TypeVar("T")
TIMEOUT_S = 10
LISTEN_S = 0.5
LOST_S = 60.0
"""Without a connection for so long, the client is replaced."""
CLOSE_S = 5.0
TOKEN_WAIT_S = 60.0
"""Until a token that Slack refuses is tried again."""
_QUIET = logging.getLogger("evenkeel.slack.socket")
_QUIET.setLevel(logging.CRITICAL + 1)
"""The client logs addresses with their tickets, and what people typed."""


def app_token(settings: Settings) -> SecretStr | None:
    """The token that opens the connection, or None where no requests are taken. Raises OperatorError where the settings that
    belong to it are missing, or it is another token.
    """
    token = settings.secret("slack_app")
    if token is None:
        return None
    if not token.get_secret_value().startswith("xapp-"):
        raise OperatorError(
            "the Slack app token is another one: it begins with xapp-; see slack.app_token_file or EVENKEEL_SLACK_APP_TOKEN"
        )
    if not settings.slack.channel or settings.secret("slack") is None:
        raise OperatorError("a Slack app token is set: set slack.channel and the bot token as well")
    if not settings.slack.operators:
        raise OperatorError(
            "a Slack app token is set and slack.operators is empty: name who may ask, or take the token away"
        )
    return token


def ask_for_connection(token: SecretStr, url: str) -> None:
    """Ask Slack whether this token may open a connection. Raises OperatorError where it may not, else Retryable."""
    try:
        _web(None, url).apps_connections_open(app_token=token.get_secret_value())
    except SlackApiError as fault:
        error = str(fault.response.get("error") or fault.response.status_code)
        if error in REFUSALS:
            raise OperatorError(f"Slack refuses the app token: {error}; {REFUSALS[error]}") from None
        raise Retryable(f"Slack opens no connection: {error}") from None
    except Exception as fault:
        raise Retryable(f"Slack does not answer: {type(fault).__name__}") from None


REFUSALS = {
    "invalid_auth": "make another one with the scope connections:write and replace it",
    "not_allowed_token_type": "it is none of the app: it begins with xapp-",
    "missing_scope": "it needs connections:write",
    "token_revoked": "make another one and replace it",
    "account_inactive": "the app or its workspace is gone",
}


def _web(token: SecretStr | None, url: str) -> WebClient:
    return WebClient(
        token=None if token is None else token.get_secret_value(),
        base_url=url.rstrip("/") + "/",
        timeout=TIMEOUT_S,
        retry_handlers=[],
        logger=_QUIET,
    )


class Connection:
    """Takes requests for as long as it runs."""

    def __init__(self, token: SecretStr, bot_token: SecretStr, url: str, handler: Handler) -> None:
        self._token, self._url, self._handler = token, url, handler
        self._web = _web(bot_token, url)
        self._given: asyncio.Queue[Given] = asyncio.Queue()
        self._working: set[asyncio.Task[None]] = set()
        self.fault = "not connected yet"
        """Why no request can be taken now; empty while one can."""

    async def run(self, ended: asyncio.Event) -> None:
        """Until asked to end. Whatever fails is tried again: nothing else of this process waits for it."""
        taking = asyncio.create_task(self._take())
        tries = 0
        try:
            while not ended.is_set():
                client = SocketModeClient(
                    app_token=self._token.get_secret_value(), web_client=self._web, logger=_QUIET
                )
                client.socket_mode_request_listeners.append(self._listener(asyncio.get_running_loop()))
                try:
                    tries += 1
                    after_s = wait_s(tries)
                    await _in_thread(client.connect)
                    if await self._keep(client, ended):
                        tries, after_s = 0, 0.0
                except Exception as fault:
                    after_s = max(after_s, self._failed(fault))
                finally:
                    await self._closed(client)
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), after_s)
        finally:
            taking.cancel()
            for one in self._working:
                one.cancel()
            await asyncio.gather(taking, *self._working, return_exceptions=True)

    async def _keep(self, client: SocketModeClient, ended: asyncio.Event) -> bool:
        """Until asked to end, or until the client has had no connection for too long. Whether it ever had one."""
        lost_s, had = 0.0, False
        while not ended.is_set() and lost_s < LOST_S:
            if client.is_connected():
                had, lost_s = True, 0.0
                if self.fault:
                    log.warning("requests are taken from Slack")
                self.fault = ""
            else:
                lost_s += LISTEN_S
                self._say("no connection to Slack")
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), LISTEN_S)
        return had

    def _failed(self, fault: Exception) -> float:
        """Note why no connection came about; how long to wait, at least."""
        if isinstance(fault, SlackApiError):
            error = str(fault.response.get("error") or fault.response.status_code)
            remedy = REFUSALS.get(error, "")
            self._say(f"Slack refuses the connection: {error}{'; ' if remedy else ''}{remedy}")
            return TOKEN_WAIT_S if remedy else 0.0
        self._say(f"no connection to Slack: {type(fault).__name__}")
        return 0.0

    def _say(self, fault: str) -> None:
        if fault != self.fault:
            log.error("no requests are taken: %s", fault)
        self.fault = fault

    async def _closed(self, client: SocketModeClient) -> None:
        """Close a client. Its threads may wait for Slack: nobody waits for them for long."""
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await _in_thread(client.close)

    def _listener(self, loop: asyncio.AbstractEventLoop) -> Callable[[Any, SocketModeRequest], None]:
        def listen(client: Any, request: SocketModeRequest) -> None:
            """In a thread of the client: acknowledge, then hand over. What is not acknowledged comes again, under its key."""
            with suppress(Exception):
                client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
            given = given_of(request)
            if given is not None:
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(self._given.put_nowait, given)

        return listen

    async def _take(self) -> None:
        while True:
            given = await self._given.get()
            if self._handler.is_new(given):
                task = asyncio.create_task(self._answered(given))
                self._working.add(task)
                task.add_done_callback(self._working.discard)

    async def _answered(self, given: Given) -> None:
        reply = await asyncio.to_thread(self._handler.reply, given)
        try:
            await asyncio.to_thread(self._answer, given, reply)
        except Exception as fault:
            log.error("an answer to %s could not be given: %s", given.who, type(fault).__name__)

    def _answer(self, given: Given, reply: Reply) -> None:
        """Answer the person alone: by the address that came with it, else, where it takes nothing any more, by a message
        that only this person sees.
        """
        text = escaped(reply.text)
        blocks = answer_blocks(text, reply.confirm)
        if given.response_url:
            try:
                answer = WebhookClient(
                    given.response_url, timeout=TIMEOUT_S, retry_handlers=[], logger=_QUIET
                ).send(
                    text=text,
                    blocks=blocks,
                    response_type="ephemeral",
                    replace_original=reply.replace,
                )
                if answer.status_code == 200:
                    return
            except Exception as fault:
                log.warning("an answer by response_url failed: %s", type(fault).__name__)
        self._web.chat_postEphemeral(channel=given.channel, user=given.who, text=text, blocks=blocks)


def given_of(request: SocketModeRequest) -> Given | None:
    """What a person did, from an envelope; None for what is neither command nor button."""
    payload = request.payload
    try:
        key = f"slack/{payload.get('trigger_id') or request.envelope_id}"
        if request.type == "slash_commands":
            return Given(
                who=payload["user_id"],
                channel=payload["channel_id"],
                key=key,
                text=payload.get("text") or "",
                response_url=payload.get("response_url") or "",
            )
        if request.type == "interactive" and payload.get("type") == "block_actions":
            pressed, container = payload["actions"][0], payload.get("container") or {}
            return Given(
                who=payload["user"]["id"],
                channel=(payload.get("channel") or {}).get("id") or container.get("channel_id") or "",
                key=key,
                action_id=pressed["action_id"],
                value=pressed.get("value") or "",
                alone=bool(container.get("is_ephemeral")),
                response_url=payload.get("response_url") or "",
            )
    except (KeyError, IndexError, TypeError, ValueError):
        log.error("an envelope of kind %s was not understood", request.type)
    return None


async def _in_thread(call: Callable[[], T]) -> T:
    """Call in a thread that the end of the process does not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, fault: Exception | None) -> None:
        if done.done():
            return
        if fault is not None:
            done.set_exception(fault)
        else:
            done.set_result(value)  # type: ignore[arg-type]

    def work() -> None:
        try:
            value, fault = call(), None
        except Exception as failed:
            value, fault = None, failed
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, value, fault)

    threading.Thread(target=work, daemon=True, name="slack-socket").start()
    return await done
