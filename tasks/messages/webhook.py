"""A webhook of the operator's own: each letter as JSON, signed as Standard Webhooks describes (standardwebhooks.com).

Headers: `webhook-id` (the same at every try: the receiver shows it once), `webhook-timestamp` (s), `webhook-signature`
(`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`). Answers: 2xx is taken; 400, 413 and 422 are a refusal of this
letter; every other says that it may be tried again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import SecretStr

from evenkeel.errors import OperatorError, Retryable
from state.watch_models import Severity
from tasks.channels import Letter, NotNow, Outcome, Refused, Sent, Unsure
from tasks.messages.choose import seconds_of

TIMEOUT_S = 10.0
OF_THE_LETTER = frozenset({400, 413, 415, 422})
PREFIX = "whsec_"


def signing_key(secret: SecretStr) -> bytes:
    """The bytes that sign. Raises OperatorError where the secret is not one."""
    text = secret.get_secret_value().removeprefix(PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < 24:
        raise OperatorError(
            "the webhook's secret is not whsec_ and the base64 of 24 bytes or more: make one with "
            "`python -c \"import base64, secrets; print('whsec_' + base64.b64encode(secrets.token_bytes(32)).decode())\"`"
        )
    return key


def signature(key: bytes, message_id: str, at_s: int, body: bytes) -> str:
    """`v1,` and the signature of one delivery."""
    signed = b".".join((message_id.encode(), str(at_s).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def message_id(key: str) -> str:
    """A letter's name in the header: of its key, without what a header cannot hold."""
    return "msg_" + hashlib.sha256(key.encode()).hexdigest()[:32]


class WebhookChannel:
    """A `Channel` that posts to one address."""

    name = "webhook"
    pictures = False

    def __init__(self, url: str, secret: SecretStr, least: Severity) -> None:
        self._url = url
        self._key = signing_key(secret)
        self.least = least
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)

    async def send(self, letter: Letter) -> Outcome:
        """Post it once."""
        body = json.dumps(body_of(letter), ensure_ascii=False, separators=(",", ":")).encode()
        named, at_s = message_id(letter.key), int(time.time())
        headers = {
            "content-type": "application/json",
            "webhook-id": named,
            "webhook-timestamp": str(at_s),
            "webhook-signature": signature(self._key, named, at_s, body),
        }
        try:
            answer = await self._http.post(self._url, content=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as fault:
            return NotNow(reason=f"no connection: {type(fault).__name__}", all_of_it=True)
        except httpx.InvalidURL:
            return NotNow(reason="webhook.url is no address", after_s=300.0, all_of_it=True)
        except httpx.HTTPError as fault:
            return Unsure(reason=type(fault).__name__)
        if answer.is_success:
            return Sent(ref=named)
        reason = f"it answered {answer.status_code}"
        if answer.status_code in OF_THE_LETTER:
            return Refused(reason=reason)
        if answer.status_code >= 500 and answer.status_code != 503:
            return Unsure(reason=reason)
        after = seconds_of(answer.headers.get("retry-after"))
        return NotNow(reason=reason, after_s=after, all_of_it=True)

    async def find(self, letter: Letter, since_ms: int) -> str | None:
        """A receiver cannot be asked; it knows a letter that it has by `webhook-id`."""
        return None

    async def restate(self, ref: str, letter: Letter) -> Outcome | None:
        """What is sent stays as it is."""
        return None

    async def check(self) -> str:
        """Whether the address answers at all: what it takes is not known before it is sent something."""
        try:
            answer = await self._http.head(self._url)
        except httpx.InvalidURL:
            raise OperatorError("webhook.url is no address") from None
        except httpx.HTTPError as fault:
            raise Retryable(f"the webhook does not answer: {type(fault).__name__}") from None
        return f"answers ({answer.status_code} to HEAD)"

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()


def body_of(letter: Letter) -> dict[str, Any]:
    """`type`, `timestamp` and `data`, as the specification names them."""
    kept = ("key", "severity", "title", "text", "about", "subject", "did", "do", "links", "thread")
    return {
        "type": f"evenkeel.{letter.kind}",
        "timestamp": datetime.fromtimestamp(letter.at_ms / 1000, tz=UTC).isoformat().replace("+00:00", "Z"),
        "data": {name: getattr(letter, name) for name in kept},
    }
