"""`evenkeel desk` as a process: it is up, ends when it is asked to though a page is open, and refuses in one line."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from app.prefect_server import free_port
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import load_settings
from tests.carry.rig import Rig, story_rig
from tests.databases import ledger_of_settings
from tests.pages_rig import HASH, KEY

ledger = ledger_of_settings(autouse=False)

WAIT_S = 100


async def started(rig: Rig, **settings: str) -> asyncio.subprocess.Process:
    url = rig.desk.settings.database.url
    given = {f"EVENKEEL_{name}": value for name, value in ({"DATABASE__URL": url} | settings).items()}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EVENKEEL_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", "--config", str(rig.config), "desk",
        env=inherited | given,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_is_up_and_ends_though_a_page_is_open(tmp_path: Path, number: int) -> None:
    async with story_rig(tmp_path) as rig:
        port = free_port()
        shutil.rmtree(tmp_path / "keys")  # no key of a venue is needed
        process = await started(rig, ADMIN__KEY_HASH=HASH, PAGES__PORT=str(port))
        try:
            assert process.stdout is not None and process.stderr is not None
            async with asyncio.timeout(WAIT_S):
                line = (await process.stdout.readline()).decode()
                assert f"the pages are at http://127.0.0.1:{port}/" in line
                async with httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=WAIT_S
                ) as http:
                    while not await answers(http):
                        await asyncio.sleep(0.05)
                    page = await http.get("/login")
                    token = re.search(r'name="token" value="([^"]+)"', page.text)
                    assert token is not None
                    answer = await http.post("/login", data={"token": token[1], "key": KEY})
                    assert answer.status_code == 303
                    async with http.stream("GET", "/stream") as stream:
                        lines = stream.aiter_lines()
                        assert await anext(lines) == "event: overview"
                        process.send_signal(number)
                        with pytest.raises(httpx.HTTPError):
                            async for _ in lines:
                                pass
                            raise httpx.ReadError("the stream has ended")
                assert await process.wait() == 0, (await process.stderr.read()).decode()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/health")).text == "ok\n"
    except httpx.ConnectError:
        return False


async def test_it_refuses_in_one_line(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            for settings, says in (
                ({}, "put what `evenkeel admin hash` prints into admin.key_hash"),
                (
                    {"ADMIN__KEY_HASH": HASH, "PAGES__PORT": port},
                    f"127.0.0.1:{port} (Address already in use)",
                ),
                ({"ADMIN__KEY_HASH": HASH, "PAGES__HOST": "0.0.0.0"}, "pages.host is 0.0.0.0: only loopback"),
            ):
                process = await started(rig, **settings)
                out, err = await asyncio.wait_for(process.communicate(), WAIT_S)
                assert process.returncode == 2 and not out
                [line] = err.decode().splitlines()
                assert says in line


def test_another_host_than_loopback_needs_the_name_of_a_proxy(tmp_path: Path) -> None:
    path = tmp_path / "evenkeel.toml"

    def settings(text: str) -> None:
        path.write_text(f"[pages]\n{text}\n")
        load_settings(path)

    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        settings(f'host = "{host}"')
    settings('host = "0.0.0.0"\nproxy_names = ["desk.example.com"]')
    for text in ('host = "0.0.0.0"', 'host = "192.0.2.7"', 'host = "desk.example.com"', 'host = "::"'):
        with pytest.raises(OperatorError, match=r"only loopback .*docs/deploy\.md"):
            settings(text)
    for name in (
        "desk.example.com:443",
        "https://desk.example.com",
        "*",
        "*.example.com",
        "Desk.example.com",
        "",
    ):
        with pytest.raises(OperatorError, match="must be host names in lower case"):
            settings(f'proxy_names = ["{name}"]')
