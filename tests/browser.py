"""A headless Chromium, driven by its own protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
"""Empty where there is none: `apt-get install chromium`."""
WAIT_S = 60.0


async def until(ready: Callable[[], Awaitable[Any]], what: str) -> Any:
    """What `ready` returns once that is true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WAIT_S
    while not (found := await ready()):
        assert loop.time() < end, f"not within {WAIT_S:.0f} s: {what}"
        await asyncio.sleep(0.05)
    return found


def with_text(selector: str, text: str) -> str:
    """A script that finds the first element whose text begins so."""
    return (
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        f".find(one => one.textContent.trim().startsWith({json.dumps(text)}))"
    )


@dataclass
class Tab:
    """One page. `complaints` is what the browser has written to its console: errors, and what a policy refused."""

    socket: ClientConnection
    complaints: list[str] = field(default_factory=list)
    called: dict[str, Callable[[str], Any]] = field(default_factory=dict)
    """By the name of a binding (`Runtime.addBinding`), what is done when the page calls it."""
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _waiting: dict[int, asyncio.Future[Any]] = field(default_factory=dict)

    async def listen(self) -> None:
        async for text in self.socket:
            message = json.loads(text)
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                entry = message["params"]["entry"]
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
            elif message["method"] == "Runtime.bindingCalled":
                self.called[message["params"]["name"]](message["params"]["payload"])
            elif message["method"] == "Runtime.exceptionThrown":
                self.complaints.append(str(message["params"]["exceptionDetails"]))

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        answer = await asyncio.wait_for(self._waiting[number], WAIT_S)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def open(self, address: str) -> None:
        """Go there, and wait until it is there with its pictures."""
        await self.evaluate("window.left = true")
        await self.call("Page.navigate", url=address)
        await self.loaded()

    async def loaded(self) -> None:
        """The page that follows the one that was there is loaded."""

        async def ready() -> bool:
            try:
                return bool(await self.evaluate("!window.left && document.readyState === 'complete'"))
            except AssertionError:  # between two pages
                return False

        await until(ready, "the page is loaded")

    async def submit(self, fields: dict[str, str]) -> None:
        """Fill in the form of the page by the ids of its fields, and send it."""
        values = json.dumps(fields)
        script = (
            f"for (const [id, value] of Object.entries({values})) document.getElementById(id).value = value;"
        )
        await self.evaluate(
            f"{script} window.left = true; document.querySelector('form.stacked').requestSubmit()"
        )
        await self.loaded()

    async def click(self, find: str) -> None:
        """Click with the mouse where the element is that the script finds, once it is there."""
        script = (
            f"(() => {{ const one = {find}; if (!one) return null; one.scrollIntoView({{block: 'center'}});"
            " const at = one.getBoundingClientRect();"
            " return at.width ? [at.x + at.width / 2, at.y + at.height / 2] : null })()"
        )
        x, y = await until(lambda: self.evaluate(script), f"there is {find}")
        await self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def write(self, text: str) -> None:
        """Write where the cursor is."""
        await self.call("Input.insertText", text=text)

    async def size(self, width: int, height: int, phone: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    async def picture(self, path: Path, most: int) -> None:
        """The page from its beginning on, so high at most."""
        width, whole = await self.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        height = min(whole, most)
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """A browser of its own with one empty page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(  # noqa: ASYNC220 - it is there at once
            [
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--hide-scrollbars",
                "--remote-debugging-port=0",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = await until(lambda: _port(Path(folder)), "the browser listens")
            import httpx

            async with httpx.AsyncClient(trust_env=False) as http:
                targets = (await http.get(f"http://127.0.0.1:{port}/json")).json()
            address = next(one["webSocketDebuggerUrl"] for one in targets if one["type"] == "page")
            async with connect(address, max_size=None, proxy=None) as socket:
                tab = Tab(socket)
                listening = asyncio.create_task(tab.listen())
                for domain in ("Page", "Runtime", "Log"):
                    await tab.call(f"{domain}.enable")
                try:
                    yield tab
                finally:
                    listening.cancel()
        finally:
            process.terminate()
            process.wait(timeout=30)


async def _port(folder: Path) -> str:
    path = folder / "DevToolsActivePort"
    return path.read_text().split("\n")[0] if path.is_file() else ""
