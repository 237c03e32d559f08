"""A headless Chromium, by its DevTools protocol: how wide a page is, what it says on the console, pictures of it."""

import asyncio
import base64
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--hide-scrollbars",
           "--disable-dev-shm-usage", "--no-first-run", "about:blank")
PATIENCE = 90.0  # seconds, of a busy machine


@dataclass
class Seen:
    """A page as a browser has it: what an expression was, what the console said, what was fetched, a picture."""

    values: dict[str, Any]
    console: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    png: bytes = b""


class Browser:
    """With `with`: starts Chromium, and ends it."""

    def __enter__(self) -> "Browser":
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.process = subprocess.Popen([CHROMIUM, *OPTIONS, f"--user-data-dir={self.folder.name}"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file, end = Path(self.folder.name, "DevToolsActivePort"), time.monotonic() + PATIENCE
        while not (port_file.exists() and port_file.read_text()):
            assert self.process.poll() is None and time.monotonic() < end, "Chromium did not start"
            time.sleep(0.1)
        self.port = int(port_file.read_text().splitlines()[0])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def look(self, path: Path, width: int, scheme: str, expressions: dict[str, str], picture: bool = False,
             height: int = 900) -> Seen:
        """Open a file in a new tab.

        Args:
            scheme: light or dark.
            expressions: name -> JavaScript, run in the page when it has loaded.
            picture: of the whole page.
        """
        return asyncio.run(self._look(path, width, height, scheme, expressions, picture))

    async def _look(self, path: Path, width: int, height: int, scheme: str, expressions: dict[str, str],
                    picture: bool) -> Seen:
        base = f"http://127.0.0.1:{self.port}"
        async with aiohttp.ClientSession() as session:
            async with session.put(f"{base}/json/new?about:blank") as answer:
                tab = await answer.json()
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = _Tab(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await page.call(f"{domain}.enable")
                await page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                                mobile=width < 600)
                await page.call("Emulation.setEmulatedMedia",
                                features=[{"name": "prefers-color-scheme", "value": scheme}])
                await page.call("Page.navigate", url=path.resolve().as_uri())
                await page.until("Page.loadEventFired")
                values = {name: (await page.call("Runtime.evaluate", expression=text, returnByValue=True)
                                 )["result"].get("value") for name, text in expressions.items()}
                shot = await page.call("Page.captureScreenshot", captureBeyondViewport=True) if picture else {}
                await page.call("Page.close")
                return Seen(values, page.console, page.fetched, base64.b64decode(shot.get("data", "")))


class _Tab:
    """Calls of the protocol in order; what the page does meanwhile is kept."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket, self.number = socket, 0
        self.console: list[str] = []
        self.fetched: list[str] = []
        self.events: set[str] = set()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        await self.socket.send_json({"id": self.number, "method": method, "params": params})
        while True:
            message = await self._message()
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]

    async def until(self, event: str) -> None:
        while event not in self.events:
            await self._message()

    async def _message(self) -> dict[str, Any]:
        message = await asyncio.wait_for(self.socket.receive_json(), PATIENCE)
        method, params = message.get("method", ""), message.get("params", {})
        self.events.add(method)
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.console.append(str(params))
        elif method == "Network.requestWillBeSent":
            self.fetched.append(params["request"]["url"])
        return message
