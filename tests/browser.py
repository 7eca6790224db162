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
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.at_end import at_end

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
"""Empty where there is none: `apt-get install chromium`."""
WAIT_S = 60.0


class NoValue(AssertionError):
    """A page gave no value: it went away before it could, or a script met what is not there."""


async def until(ready: Callable[[], Awaitable[Any]], what: str) -> Any:
    """What `ready` returns once that is true. A page that gives no value is not whole yet, or another follows it."""
    loop = asyncio.get_running_loop()
    end, why = loop.time() + WAIT_S, ""
    while True:
        try:
            if found := await ready():
                return found
        except NoValue as none:
            why = f" ({none})"
        assert loop.time() < end, f"not within {WAIT_S:.0f} s: {what}{why}"
        await asyncio.sleep(0.05)


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
    more: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Holds the pages that were opened behind this one."""
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
        if "error" in answer:
            raise NoValue(answer)
        result: dict[str, Any] = answer["result"]
        return result

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise NoValue(answer)
        return answer["result"].get("value")

    async def open(self, address: str) -> None:
        """Go there, and wait until it is there with its pictures."""
        await self.evaluate("window.left = true")
        await self.call("Page.navigate", url=address)
        await self.loaded()

    async def behind(self, address: str) -> Tab:
        """Open a page in the background, as a click with the middle button does; return it once it is there."""
        own = (await self.call("Target.getTargetInfo"))["targetInfo"]["browserContextId"]
        made = await self.call("Target.createTarget", url=address, background=True, browserContextId=own)
        port = await until(_browser().port, "the browser listens")
        found = await self.more.enter_async_context(
            _connected(f"ws://127.0.0.1:{port}/devtools/page/{made['targetId']}")
        )
        there = f"location.href === {json.dumps(address)} && document.readyState === 'complete'"
        await until(lambda: found.evaluate(there), "the page behind is loaded")
        return found

    async def loaded(self) -> None:
        """The page that follows the one that was there is loaded."""
        ready = "!window.left && document.readyState === 'complete'"
        await until(lambda: self.evaluate(ready), "the page is loaded")

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


@dataclass(frozen=True)
class Browser:
    """One that runs without a window, and where it keeps what it knows."""

    process: subprocess.Popen[bytes]
    folder: Path

    async def port(self) -> str:
        """Where it listens; "" while it does not."""
        path = self.folder / "DevToolsActivePort"
        return path.read_text().split("\n")[0] if path.is_file() else ""

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


_running: list[Browser] = []
"""The one of this process, once it was asked for."""


def _browser() -> Browser:
    """Start it, where it does not run: a page of it costs a tenth of what a browser costs."""
    if not _running or _running[0].process.poll() is not None:
        folder = Path(tempfile.mkdtemp(prefix="evenkeel-browser-"))
        process = subprocess.Popen(
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
        _running[:] = [Browser(process, folder)]
        at_end(_running[0].end)
    return _running[0]


@asynccontextmanager
async def _connected(address: str) -> AsyncIterator[Tab]:
    async with connect(address, max_size=None, proxy=None) as socket:
        found = Tab(socket)
        listening = asyncio.create_task(found.listen())
        try:
            yield found
        finally:
            listening.cancel()


@asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """An empty page with cookies and storage of its own, in this process's browser."""
    import httpx

    port = await until(_browser().port, "the browser listens")
    async with httpx.AsyncClient(trust_env=False) as http:
        whole = (await http.get(f"http://127.0.0.1:{port}/json/version")).json()["webSocketDebuggerUrl"]
    async with _connected(whole) as browser:
        made = await browser.call("Target.createBrowserContext")
        page = await browser.call("Target.createTarget", url="about:blank", newWindow=True, **made)
        async with _connected(f"ws://127.0.0.1:{port}/devtools/page/{page['targetId']}") as tab:
            for domain in ("Page", "Runtime", "Log"):
                await tab.call(f"{domain}.enable")
            try:
                yield tab
            finally:
                await tab.more.aclose()
                await browser.call("Target.disposeBrowserContext", **made)
