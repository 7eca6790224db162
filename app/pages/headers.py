"""What every answer says to a browser: nothing from elsewhere, nothing inline, no frame, nothing kept."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
OF_A_PICTURE = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""A drawing styles its own text, and runs nothing."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: under it a browser sends `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
MOST_BYTES = 16_384
"""Of a form."""


class Headers:
    """Adds them to each answer, and refuses a body that is no form of ours. Plain ASGI, so that a stream passes unbuffered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                # A file of ours is asked for again, and answered with "not changed".
                headers["Cache-Control"] = "no-cache" if scope["path"].startswith("/static/") else "no-store"
            await send(message)

        if (refused := _refused(scope)) is not None:
            await with_headers(
                {"type": "http.response.start", "status": refused, "headers": [(b"content-length", b"0")]}
            )
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, with_headers)


def _refused(scope: Scope) -> int | None:
    """The status for a body of unknown or of more length than a form has."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    if any(name == b"transfer-encoding" for name, _ in scope["headers"]):
        return 411
    if lengths and (not lengths[0].isdigit() or int(lengths[0]) > MOST_BYTES):
        return 413
    return None
