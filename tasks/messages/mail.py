"""Mail: one letter to all recipients through the operator's own server.

A `Message-ID` is made of the letter's key, the same at every try; answers stand in their thread by `References`. SMTP cannot
be asked whether it has a message: where the connection breaks after the text, it is sent again under the same `Message-ID`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import smtplib
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

from pydantic import SecretStr

from evenkeel.errors import OperatorError, Retryable
from evenkeel.settings.messages import Mail
from state.watch_models import Severity
from tasks.channels import Letter, NotNow, Outcome, Refused, Sent, Unsure

log = logging.getLogger("evenkeel.sender")
TIMEOUT_S = 15.0


class MailChannel:
    """A `Channel` that hands mail to one SMTP server."""

    name = "mail"
    pictures = False

    def __init__(self, mail: Mail, password: SecretStr | None) -> None:
        self._mail = mail
        self._password = password
        self.least = Severity(mail.least)

    async def send(self, letter: Letter) -> Outcome:
        """Hand it over once, to all recipients."""
        return await asyncio.to_thread(self._send, letter)

    def _send(self, letter: Letter) -> Outcome:
        """Only what the server says of the text itself is a refusal of this letter; all else is of the settings, or passes."""
        message = message_of(letter, self._mail)
        try:
            server = self._connected()
        except smtplib.SMTPAuthenticationError as fault:
            return _held(f"the server refuses the login ({fault.smtp_code})")
        except (smtplib.SMTPException, OSError, UnicodeError) as fault:
            return NotNow(reason=f"no connection: {type(fault).__name__}", all_of_it=True)
        try:
            refused = server.send_message(message)
        except smtplib.SMTPRecipientsRefused as fault:
            return _held(f"every recipient is refused: {_words(*next(iter(fault.recipients.values())))}")
        except smtplib.SMTPDataError as fault:
            return _answered(fault.smtp_code, fault.smtp_error)
        except (smtplib.SMTPResponseException, smtplib.SMTPNotSupportedError) as fault:
            return _held(str(fault)[:200])
        except (smtplib.SMTPException, OSError) as fault:
            return Unsure(reason=type(fault).__name__)
        finally:
            with suppress(
                smtplib.SMTPException, OSError
            ):  # it has the mail, whatever it says to the farewell
                server.quit()
            server.close()
        if refused:  # the others have it: sent again, they would have it twice
            log.error("mail: %d of %d recipients are refused", len(refused), len(self._mail.recipients))
        return Sent(ref=str(message["Message-ID"]))

    def _connected(self) -> smtplib.SMTP:
        mail = self._mail
        if mail.encryption == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                mail.host, mail.port, timeout=TIMEOUT_S, context=ssl.create_default_context()
            )
        else:
            server = smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT_S)
        try:
            if mail.encryption == "starttls":
                server.starttls(context=ssl.create_default_context())
            if mail.user:
                try:
                    server.login(mail.user, self._password.get_secret_value() if self._password else "")
                except smtplib.SMTPServerDisconnected:  # some hang up at the second wrong answer
                    raise smtplib.SMTPAuthenticationError(535, b"it hung up at the login") from None
        except BaseException:
            server.close()
            raise
        return server

    async def find(self, letter: Letter, since_ms: int) -> str | None:
        """A mail server cannot be asked; readers fold what has the same `Message-ID`."""
        return None

    async def restate(self, ref: str, letter: Letter) -> Outcome | None:
        """What is sent stays as it is."""
        return None

    async def check(self) -> str:
        """Connect and log in, and send nothing."""
        try:
            await asyncio.to_thread(self._greet)
        except UnicodeError:
            raise OperatorError(
                "mail.user and its password must be of letters that SMTP takes (ASCII)"
            ) from None
        except smtplib.SMTPAuthenticationError as fault:
            raise OperatorError(
                f"the mail server refuses the login ({fault.smtp_code}): mail.user, mail.login_file"
            ) from None
        except (smtplib.SMTPException, OSError) as fault:
            raise Retryable(f"the mail server does not answer: {type(fault).__name__}") from None
        return f"{self._mail.host}:{self._mail.port} takes our login, {len(self._mail.recipients)} recipients"

    def _greet(self) -> None:
        with self._connected() as server:
            server.noop()

    async def close(self) -> None:
        """Nothing is held open between two letters."""


def _answered(code: int, text: bytes | str) -> Outcome:
    """What the server says of a text. 4xx: later. 5xx: this letter is refused."""
    reason = _words(code, text)
    return Refused(reason=reason) if code >= 500 else NotNow(reason=reason)


def _held(reason: str) -> NotNow:
    """No letter is taken before somebody has mended something."""
    return NotNow(reason=reason, after_s=300.0, all_of_it=True)


def _words(code: int, text: bytes | str) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {words}"[:200]


def message_of(letter: Letter, mail: Mail) -> EmailMessage:
    """The letter as a mail. Line breaks of a title cannot add a header: the library refuses them, so they are taken out."""
    message = EmailMessage()
    domain = parseaddr(mail.sender)[1].partition("@")[2] or socket.getfqdn()
    message["Subject"] = " ".join(f"[evenkeel] {letter.title}".split())
    message["From"] = mail.sender
    message["To"] = ", ".join(mail.recipients)
    message["Date"] = format_datetime(datetime.fromtimestamp(letter.at_ms / 1000, tz=UTC))
    message["Message-ID"] = name_of(letter.key, domain)
    message["Auto-Submitted"] = "auto-generated"
    if letter.thread_ref and letter.thread_ref.startswith("<"):
        head = letter.thread_ref.split()[0]
        message["In-Reply-To"] = head
        message["References"] = head
    if letter.severity is Severity.CRITICAL:
        message["Importance"] = "high"
    parts = [letter.text]
    parts += [
        f"{label}\n{text}"
        for label, text in (("What the system does:", letter.did), ("What you do:", letter.do))
        if text
    ]
    parts += [f"{name}: {url}" for name, url in letter.links.items()]
    message.set_content("\n\n".join(parts) + "\n")
    return message


def name_of(key: str, domain: str) -> str:
    """The `Message-ID` of a letter."""
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:32]}@{domain}>"
