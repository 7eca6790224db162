"""Webhook and mail as others receive them: by a library of Standard Webhooks, and by a mail server."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from email import message_from_bytes
from email.message import Message as Mime
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.prefect_server import free_port
from evenkeel.clock import SystemClock
from evenkeel.errors import OperatorError, Retryable
from evenkeel.settings.messages import Mail
from state.store import Store
from state.watch_models import Severity
from tasks.channels import Letter, NotNow, Refused, Sent, Unsure
from tasks.messages.mail import MailChannel
from tasks.messages.slack import SlackChannel, blocks_of, escaped
from tasks.messages.webhook import WebhookChannel
from tests.databases import make_ledger
from twins.faults import Fault
from twins.http import served, served_in_thread
from twins.slack import SlackTwin
from twins.slack.content import wrong_content

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def letter(key: str = "alert/1/critical/1", **more: Any) -> Letter:
    given = {
        "key": key,
        "severity": Severity.CRITICAL,
        "title": "CRITICAL: fee money (p1)",
        "text": "the wallet holds 0.004 SOL – Größe\nline two",
        "at_ms": 1_757_203_200_000,
        "kind": "alert",
        "about": "fee_money",
        "subject": "p1",
        "did": "cuts tips",
        "do": "send SOL to the wallet",
        "links": {"runbook": "https://example.com/runbook#what-an-exit-needs"},
    }
    return Letter(**(given | more))


# --- webhook -------------------------------------------------------------------------------------------------


class Receiver:
    """Somebody's server: it checks what it gets with the library, and answers what a test says."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.answers: list[Response] = []
        self.app = Starlette(routes=[Route("/hook", self._hook, methods=["POST", "HEAD"])])

    async def _hook(self, request: Request) -> Response:
        if request.method == "POST":
            headers = dict(request.headers)
            self.got.append(Webhook(SECRET).verify(await request.body(), headers))
            self.ids.append(headers["webhook-id"])
        return self.answers.pop(0) if self.answers else Response(status_code=204)


@asynccontextmanager
async def hooked() -> AsyncIterator[tuple[Receiver, WebhookChannel]]:
    receiver = Receiver()
    async with served(receiver.app) as base:
        channel = WebhookChannel(f"{base}/hook", SecretStr(SECRET), Severity.INFO)
        yield receiver, channel
        await channel.close()


async def test_a_library_of_others_accepts_what_the_webhook_sends() -> None:
    async with hooked() as (receiver, channel):
        assert isinstance(await channel.send(letter()), Sent)
        assert "HEAD" in await channel.check()
    [got] = receiver.got
    assert got["type"] == "evenkeel.alert" and got["timestamp"] == "2025-09-07T00:00:00Z"
    assert got["data"]["text"] == letter().text and got["data"]["do"] == "send SOL to the wallet"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Response(status_code=500), Unsure),
        (Response(status_code=502), Unsure),
        (Response(status_code=503, headers={"retry-after": "17"}), NotNow),
        (Response(status_code=429, headers={"retry-after": "17"}), NotNow),
        (Response(status_code=401), NotNow),
        (Response(status_code=302, headers={"location": "/elsewhere"}), NotNow),
        (Response(status_code=422), Refused),
    ],
)
async def test_what_a_webhook_answers_is_understood_and_the_next_try_has_the_same_id(
    answer: Response, outcome: type[Any]
) -> None:
    async with hooked() as (receiver, channel):
        receiver.answers.append(answer)
        found = await channel.send(letter())
        assert isinstance(found, outcome)
        if isinstance(found, NotNow) and "retry-after" in answer.headers:
            assert found.after_s == 17
        await channel.send(letter())
        await channel.send(letter(key="another"))
    assert receiver.ids[0] == receiver.ids[1] != receiver.ids[2]


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "short", "whsec_!!!", "whsec_" + base64.b64encode(b"x" * 23).decode()]
)
def test_a_secret_that_is_none_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(OperatorError) as refused:
        WebhookChannel("http://127.0.0.1:1/", SecretStr(secret), Severity.INFO)
    assert "whsec_" in str(refused.value) and (len(secret) < 7 or secret not in str(refused.value))


async def test_a_webhook_that_is_not_there_has_nothing() -> None:
    channel = WebhookChannel("http://127.0.0.1:1/hook", SecretStr(SECRET), Severity.INFO)
    assert isinstance(await channel.send(letter()), NotNow)
    with pytest.raises(Retryable):
        await channel.check()
    await channel.close()


# --- mail ----------------------------------------------------------------------------------------------------


class Inbox:
    """A mail server's rules, and what it has taken."""

    def __init__(self) -> None:
        self.mails: list[Mime] = []
        self.says: list[str] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        says = self.says.pop(0) if self.says else "250 taken"
        if says.startswith("250") or says == "break":
            assert isinstance(envelope.content, bytes)
            self.mails.append(message_from_bytes(envelope.content, policy=default))
        if says == "break":
            server.transport.abort()
        return says

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if "nobody" in address:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"


def login(server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
    good = isinstance(given, LoginPassword) and given.password == b"right"
    return AuthResult(success=good)


@contextmanager
def mail_server(inbox: Inbox | None = None) -> Iterator[tuple[Inbox, Mail]]:
    inbox = inbox or Inbox()
    for _ in range(20):  # a port that is free may be taken by another test before we have it
        port = free_port()
        controller = Controller(
            inbox, hostname="127.0.0.1", port=port, authenticator=login, auth_require_tls=False
        )
        try:
            controller.start()
        except OSError:
            continue
        break
    try:
        mail = Mail(
            host="127.0.0.1",
            port=port,
            encryption="none",
            sender="evenkeel@example.com",
            recipients=("one@example.com", "two@example.com"),
            user="evenkeel",
        )
        yield inbox, mail
    finally:
        controller.stop()


async def test_a_mail_server_takes_the_letter_with_its_thread_and_its_own_name() -> None:
    with mail_server() as (inbox, mail):
        channel = MailChannel(mail, SecretStr("right"))
        assert "takes our login" in await channel.check()
        first = await channel.send(letter(title="two\r\nBcc: everybody@example.com"))
        assert isinstance(first, Sent)
        await channel.send(letter(key="over", thread_ref=first.ref))
        await channel.send(letter(title="two\r\nBcc: everybody@example.com"))
    one, answer, again = inbox.mails
    assert one["Subject"] == "[evenkeel] two Bcc: everybody@example.com" and one["Bcc"] is None
    assert one["Message-ID"] == first.ref == answer["References"] == again["Message-ID"]
    body = one.get_body().get_content()  # type: ignore[attr-defined]
    assert "Größe" in body and "send SOL to the wallet" in body and "https://example.com/runbook" in body


@pytest.mark.parametrize(
    ("says", "outcome"),
    [("451 later", NotNow), ("554 no", Refused), ("break", Unsure)],
)
async def test_what_a_mail_server_says_is_understood(says: str, outcome: type[Any]) -> None:
    with mail_server() as (inbox, mail):
        inbox.says.append(says)
        channel = MailChannel(mail, SecretStr("right"))
        assert isinstance(await channel.send(letter()), outcome)
        assert isinstance(await channel.send(letter()), Sent)


async def test_a_login_that_is_refused_holds_everything_back() -> None:
    with mail_server() as (inbox, mail):
        channel = MailChannel(mail, SecretStr("wrong"))
        found = await channel.send(letter())
        assert isinstance(found, NotNow) and found.all_of_it
        with pytest.raises(OperatorError, match="login") as refused:
            await channel.check()
        assert "wrong" not in str(refused.value)
        assert not inbox.mails


async def test_one_recipient_who_is_gone_does_not_cost_the_others_their_mail() -> None:
    with mail_server() as (inbox, mail):
        some = mail.model_copy(update={"recipients": ("nobody@example.com", "two@example.com")})
        assert isinstance(await MailChannel(some, SecretStr("right")).send(letter()), Sent)
        none = mail.model_copy(update={"recipients": ("nobody@example.com",)})
        held = await MailChannel(none, SecretStr("right")).send(letter())
        assert isinstance(held, NotNow) and held.all_of_it, "a mistyped recipient loses no letter"
        assert len(inbox.mails) == 1


async def test_what_a_server_says_to_the_farewell_changes_nothing() -> None:
    class Rude(Inbox):
        async def handle_QUIT(self, server: Any, session: Any, envelope: Envelope) -> str:
            return "451 not yet"

    with mail_server(Rude()) as (inbox, mail):
        assert isinstance(await MailChannel(mail, SecretStr("right")).send(letter()), Sent)
        assert len(inbox.mails) == 1


async def test_a_server_that_will_not_have_us_holds_every_letter() -> None:
    class Closed(Inbox):
        async def handle_MAIL(
            self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
        ) -> str:
            return "530 who are you"

    with mail_server(Closed()) as (_, mail):
        held = await MailChannel(mail, SecretStr("right")).send(letter())
        assert isinstance(held, NotNow) and held.all_of_it
    nobody = mail.model_copy(update={"port": 1})
    assert isinstance(await MailChannel(nobody, None).send(letter()), NotNow)


async def test_a_password_that_smtp_cannot_take_is_a_setting_to_mend() -> None:
    with mail_server() as (_, mail):
        channel = MailChannel(mail, SecretStr("größer"))
        held = await channel.send(letter())
        assert isinstance(held, NotNow) and held.all_of_it
        with pytest.raises(OperatorError, match="ASCII"):
            await channel.check()


# --- Slack ---------------------------------------------------------------------------------------------------


@given(
    st.text(max_size=40),
    st.text(max_size=9_000),
    st.sampled_from(["", "short", "& <x> " * 3_000]),
    st.booleans(),
)
def test_slack_takes_the_form_of_every_letter(title: str, text: str, more: str, urgent: bool) -> None:
    one = letter(title=title or "t", text=text + more, did=more, do=more, urgent=urgent)
    blocks = blocks_of(one)
    given = {"text": "t", "blocks": blocks}
    assert wrong_content(given) in ("", "msg_blocks_too_long"), (
        "sent again without its form where it is too long"
    )
    shown = "".join(block["text"]["text"] for block in blocks if block["type"] == "section")
    assert "<!channel>" not in shown.removeprefix("<!channel> ")
    assert escaped(title or "t")[:50] in shown


async def test_slack_is_asked_before_it_is_relied_on() -> None:
    twin = SlackTwin()
    async with served(twin.app) as base:
        good = SlackChannel(SecretStr(twin.token), "C0TWIN00001", Severity.INFO, f"{base}/api")
        assert "evenkeel of twin" in await good.check()
        for channel, token, says in (
            ("C0TWIN00002", twin.token, "invite it"),
            ("C0TWIN00001", "xoxb-other-token-of-somebody", "install the app again"),
        ):
            with pytest.raises(OperatorError, match=says) as refused:
                await SlackChannel(SecretStr(token), channel, Severity.INFO, f"{base}/api").check()
            assert token not in str(refused.value)
        twin.faults.add(Fault("slack", "one_endpoint", call="auth.test", args={"how": "502"}))
        with pytest.raises(Retryable):
            await good.check()


async def test_a_lost_message_is_found_on_a_later_page_and_in_its_thread() -> None:
    twin = SlackTwin(page=3)
    async with served(twin.app) as base:
        channel = SlackChannel(SecretStr(twin.token), "C0TWIN00001", Severity.INFO, f"{base}/api")
        first = await channel.send(letter(key="first"))
        assert isinstance(first, Sent)
        for number in range(9):
            await channel.send(letter(key=f"more {number}"))
            await channel.send(letter(key=f"answer {number}", thread_ref=first.ref, loud=False))
        since = int(float(first.ref) * 1000)
        for key, ref in (("first", ""), ("more 4", ""), ("answer 7", first.ref)):
            found = await channel.find(letter(key=key, thread_ref=ref), since)
            [row] = [one for one in twin.shown() if one["metadata"]["event_payload"]["key"] == key]
            assert found == row["ts"]
        assert await channel.find(letter(key="never sent", thread_ref=first.ref), since) == ""


# --- the process ---------------------------------------------------------------------------------------------


def test_a_sender_that_is_killed_while_it_posts_has_sent_everything_once_in_the_end(tmp_path: Path) -> None:
    """`evenkeel send` itself, SIGKILL in the middle of each of its first posts."""
    twin = SlackTwin()
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
    make_ledger(ledger)
    store, pause = Store.open(ledger, SystemClock()), threading.Event()
    with served_in_thread(twin.app) as base:
        config = tmp_path / "evenkeel.toml"
        config.write_text(
            f'[database]\nurl = "{ledger}"\n[slack]\nchannel = "C0TWIN00001"\nurl = "{base}/api"\n'
        )
        environment = os.environ | {"EVENKEEL_SLACK_TOKEN": twin.token, "EVENKEEL_CONFIG": str(config)}
        store.move_checkpoint("channel slack", 1, {"after": 0})
        for number in range(6):
            store.alert(f"rule {number}", Severity.CRITICAL, "t", f"subject {number}")
        keys = sorted(row.key for row in store.messages())
        twin.faults.add(Fault("slack", "delay", call="chat.postMessage", times=4, delay_s=0.5))
        for kill in range(5):
            process = subprocess.Popen([sys.executable, "-m", "app.cli", "send"], env=environment)
            try:
                posts = kill + 1
                while (
                    kill < 4 and sum(row["call"] == "chat.postMessage" for row in twin.faults.calls) < posts
                ):
                    assert process.poll() is None
                    pause.wait(0.01)
                if kill < 4:
                    process.send_signal(signal.SIGKILL)
                    continue
                until = time.monotonic() + 110
                while store.pending("slack"):
                    assert process.poll() is None and time.monotonic() < until
                    pause.wait(0.05)
                process.terminate()
                assert process.wait(30) == 0
            finally:
                process.kill()
                process.wait()
        shown = sorted(row["metadata"]["event_payload"]["key"] for row in twin.shown())
    store.close()
    assert shown == keys
