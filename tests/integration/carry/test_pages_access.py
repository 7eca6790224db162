"""Who may see and do what in the web pages: logins, forms, other sites, other names, and what a browser is forbidden."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.pages.headers import MOST_BYTES
from app.pages.sessions import FAILURES, FORM_S, WITHIN_S, Failures, Sessions
from state.watch_models import Severity
from tests.carry.rig import story_rig
from tests.databases import ledger_of_settings
from tests.pages_rig import KEY, served

ledger = ledger_of_settings(autouse=False)

PAGES = (
    "/",
    "/opportunities",
    "/alerts",
    "/reports",
    "/positions/x",
    "/positions/x/life.svg",
    "/hedging",
    "/accounts",
    "/do/acknowledge",
)
ACK = "/do/acknowledge"
ASKED = f"{ACK}?kind=leg+vanished&subject=p1"


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def test_nothing_is_shown_before_a_login_and_nothing_after_a_logout(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig, served(rig.desk.settings, rig.desk.store) as browser:
        for path in PAGES:
            answer = await browser.get(path)
            assert answer.status_code == 303 and answer.headers["location"].startswith("/login?next="), path
        assert (await browser.get("/stream")).status_code == 401
        assert (await browser.http.post(ACK, data={"kind": "x"})).status_code == 401
        answer = await browser.log_in()
        cookie = answer.headers["set-cookie"]
        assert (
            answer.status_code == 303
            and "HttpOnly" in cookie
            and "SameSite=strict" in cookie
            and "Path=/" in cookie
        )
        assert "Secure" not in cookie, "a browser would not send it back over plain loopback"
        kept = dict(browser.http.cookies)
        assert (await browser.get("/")).status_code == 200
        assert (await browser.submit("/logout", "/")).status_code == 303
        assert (await browser.get("/")).status_code == 303
        browser.http.cookies.update(kept)
        assert (await browser.get("/")).status_code == 303, "a copy of the cookie is worth nothing either"


async def test_a_login_leads_to_a_page_of_ours_alone(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig, served(rig.desk.settings, rig.desk.store) as browser:
        for asked, leads in (
            ("/alerts", "/alerts"),
            ("//evil.example", "/"),
            ("https://evil.example", "/"),
            ("/\\evil.example", "/"),
            ("/a\r\nSet-Cookie: x=y", "/"),
        ):
            answer = await browser.submit("/login", key=KEY, next=asked)
            assert (answer.status_code, answer.headers["location"]) == (303, leads)


@pytest.mark.usefixtures("ledger")
async def test_a_wrong_key_is_an_alert_and_many_are_not_tried(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig, served(rig.desk.settings, rig.desk.store) as browser:
        clock = Hand()
        browser.site.failures = Failures(clock)
        assert (await browser.log_in()).status_code == 303
        for _ in range(FAILURES):
            answer = await browser.log_in("wrong horse battery")
            assert answer.status_code == 403 and "that is not the admin key" in answer.text
        [alert] = rig.desk.store.alerts(open_only=True)
        assert alert.kind == "wrong admin key" and alert.severity is Severity.CRITICAL
        assert "somebody at 127.0.0.1 tried to log in to `evenkeel desk`" in alert.text
        answer = await browser.log_in()
        assert answer.status_code == 429 and answer.headers["retry-after"] == f"{WITHIN_S:.0f}", (
            "the right one too"
        )
        clock.now_s += WITHIN_S
        assert (await browser.log_in()).status_code == 303


async def test_a_session_and_a_form_expire(tmp_path: Path) -> None:
    clock = Hand()
    async with story_rig(tmp_path) as rig:
        rig.desk.store.alert("leg vanished", Severity.CRITICAL, "t", "p1", news=True)
        async with served(rig.desk.settings, rig.desk.store, Sessions(60, clock)) as browser:
            await browser.log_in()
            page = await browser.get(ASKED)
            token = re.search(rf'action="{ACK}".*?name="token" value="([^"]+)"', page.text, re.DOTALL)
            assert token is not None
            clock.now_s += FORM_S + 1
            answer = await browser.http.post(
                ACK, data={"token": token[1], "kind": "leg vanished", "subject": "p1"}
            )
            assert answer.status_code == 403 and "too old" in answer.text
            clock.now_s += 60 * 60 - FORM_S - 2
            assert (await browser.get("/")).status_code == 200
            clock.now_s += 2
            assert (await browser.get("/")).status_code == 303
    other = Sessions(60, clock)
    assert other.read(browser.http.cookies["evenkeel_session"]) is None, "another process has another secret"


async def test_a_stream_ends_with_its_session(tmp_path: Path) -> None:
    clock = Hand()
    async with (
        story_rig(tmp_path) as rig,
        served(rig.desk.settings, rig.desk.store, Sessions(60, clock)) as browser,
    ):
        await browser.log_in()
        async with browser.http.stream("GET", "/stream") as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "event: overview"
            clock.now_s += 3601
            assert "event: ended" in [line async for line in lines]


@pytest.mark.usefixtures("ledger")
async def test_an_alert_is_acknowledged_from_a_form_of_ours_alone(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        store = rig.desk.store
        store.alert("leg vanished", Severity.CRITICAL, "the short is gone", "p1", news=True)
        async with served(rig.desk.settings, store) as browser:
            await browser.log_in()
            fields = {"kind": "leg vanished", "subject": "p1", "reason": "seen"}
            logout = re.search(
                r'action="/logout"><input type="hidden" name="token" value="([^"]+)"',
                (await browser.get("/")).text,
            )
            login = re.search(r'name="token" value="([^"]+)"', (await browser.get("/login")).text)
            assert logout is not None and login is not None
            for token in (
                {},
                {"token": ""},
                {"token": "form.x.y"},
                {"token": logout[1]},
                {"token": login[1]},
            ):
                answer = await browser.http.post(ACK, data=fields | token)
                assert answer.status_code == 403, token
            page = await browser.get(ASKED)
            assert "the short is gone" in page.text and "It is closed by this." in page.text
            token = re.search(rf'action="{ACK}".*?name="token" value="([^"]+)"', page.text, re.DOTALL)
            assert token is not None
            mine = fields | {"token": token[1]}
            for headers in (
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Sec-Fetch-Site": "cross-site"},
                {"Sec-Fetch-Site": "same-site"},
            ):
                assert (await browser.http.post(ACK, data=mine, headers=headers)).status_code == 403, headers
            too_long = await browser.http.post(ACK, data=mine | {"reason": "x" * 501})
            assert too_long.status_code == 400
            assert [one.kind for one in store.alerts(open_only=True)] == ["leg vanished"], (
                "nothing was changed so far"
            )

            own = {"Origin": str(browser.http.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
            answer = await browser.http.post(ACK, data=mine, headers=own)
            assert (answer.status_code, answer.headers["location"]) == (303, "/alerts")
            assert store.alerts(open_only=True) == []
            [move] = [one for one in store.transitions("alert") if one.to_state == "acknowledged"]
            assert move.note.startswith(
                "a holder of the admin key, by `evenkeel desk` (session "
            ) and move.note.endswith(": seen")
            again = await browser.http.post(ACK, data=mine, headers=own)
            assert again.status_code == 409 and "no open alert is" in again.text


async def test_a_name_that_is_not_ours_is_refused_whatever_it_leads_to(tmp_path: Path) -> None:
    """DNS rebinding: the page of somebody else, whose name was made to lead to this host."""
    async with story_rig(tmp_path) as rig, served(rig.desk.settings, rig.desk.store) as browser:
        await browser.log_in()
        port = browser.http.base_url.port
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "127.0.0.1.evil.example",
            "desk.example.com",
            "169.254.169.254",
        ):
            for path in ("/", "/login", "/health", "/static/pages.js", "/stream"):
                answer = await browser.get(path, Host=host)
                assert answer.status_code == 400, (host, path)
                assert answer.headers["x-frame-options"] == "DENY"
        for host in ("localhost", f"localhost:{port}", f"[::1]:{port}"):
            assert (await browser.get("/health", Host=host)).status_code == 200, host


async def test_behind_a_proxy_with_tls_cookies_go_by_tls_alone(tmp_path: Path) -> None:
    async with (
        story_rig(tmp_path) as rig,
        served(rig.desk.settings, rig.desk.store, proxy_names=("desk.example.com",)) as browser,
    ):
        browser.http.headers["Host"] = "desk.example.com"
        page = await browser.get("/login")
        token = re.search(r'name="token" value="([^"]+)"', page.text)
        assert token is not None
        # A proxy ends TLS: the browser's origin has https, and what arrives here is http.
        headers = {"Origin": "https://desk.example.com"}
        answer = await browser.http.post("/login", data={"token": token[1], "key": KEY}, headers=headers)
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-evenkeel_session=") and "Secure" in cookie and "Domain" not in cookie
        value = cookie.partition(";")[0]
        assert (await browser.get("/", Cookie=value)).status_code == 200
        plain = value.replace("__Host-", "")
        assert (await browser.get("/", Cookie=plain)).status_code == 303, (
            "a cookie that went without TLS is not taken"
        )
        assert (await browser.get("/", Cookie=value, Host="127.0.0.1")).status_code == 303


async def test_every_answer_forbids_what_a_page_does_not_need(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig, served(rig.desk.settings, rig.desk.store) as browser:
        await browser.log_in()
        for path in (
            "/",
            "/login",
            "/alerts",
            "/nowhere",
            "/static/pages.css",
            "/static/htmx-2.0.11.min.js",
            "/health",
        ):
            answer = await browser.get(path)
            policy = answer.headers["content-security-policy"]
            assert (
                "default-src 'none'" in policy
                and "script-src 'self';" in policy
                and "frame-ancestors 'none'" in policy
            )
            assert "unsafe" not in policy and "data:" not in policy
            assert (
                answer.headers["x-frame-options"] == "DENY"
                and answer.headers["x-content-type-options"] == "nosniff"
            )
            assert answer.headers["referrer-policy"] == "same-origin", (
                "no-referrer would null the origin of our own forms"
            )
            assert answer.headers["cache-control"] == (
                "no-cache" if path.startswith("/static/") else "no-store"
            ), path
            if answer.headers["content-type"].startswith("text/html"):
                assert not re.search(
                    r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", answer.text
                ), path
                assert not re.findall(r'(?:src|href|action)="(?!/|#)', answer.text), (
                    "everything is served from here"
                )


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Content-Length": str(MOST_BYTES + 1)}, 413), ({"Transfer-Encoding": "chunked"}, 411)],
)
async def test_a_body_that_is_no_form_of_ours_is_not_read(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with story_rig(tmp_path) as rig, served(rig.desk.settings, rig.desk.store) as browser:
        content = b"0\r\n\r\n" if "Transfer-Encoding" in headers else b"x" * (MOST_BYTES + 1)
        answer = await browser.http.post("/login", content=content, headers=headers)
        assert answer.status_code == status


async def test_files_beside_the_static_ones_are_not_served(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig, served(rig.desk.settings, rig.desk.store) as browser:
        for path in ("/static/../site.py", "/static/%2e%2e/site.py", "/static/..%2fsite.py", "/static/"):
            assert (await browser.get(path)).status_code in (404, 303), path


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
async def test_no_other_method_is_known(tmp_path: Path, method: str) -> None:
    async with story_rig(tmp_path) as rig, served(rig.desk.settings, rig.desk.store) as browser:
        await browser.log_in()
        for path in ("/", ACK, "/login"):
            assert (await browser.http.request(method, path)).status_code == 405, path
