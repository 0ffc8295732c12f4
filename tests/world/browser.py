"""A real browser without a window: Chromium, driven over WebDriver (W3C), that can reach loopback alone."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

DEADLINE_SECONDS = 30.0
_TURN_SECONDS = 0.05
_PHONE = 600  # narrower is one
_MOST_TABS = 300
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Space": " ", "Down": "\ue015"}  # WebDriver section 17.4.2
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver section 12
_FLAGS = (
    "--headless",
    "--no-sandbox",  # containers and root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


def missing() -> str:
    """What there is not of a browser and its driver; empty where both are installed."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(absent)} on PATH: run `make browser`" if absent else ""


class Browser:
    """A fresh Chromium, used as a context manager.

    Args:
        profile: a folder of its own, for all that it keeps.
    """

    def __init__(self, profile: Path) -> None:
        environment = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
        driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
        assert driver is not None, missing()
        assert chromium is not None, missing()
        self._driver = subprocess.Popen(
            [driver, "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment | {"HOME": str(profile)},
        )
        try:
            self._http = requests.Session()
            self._http.trust_env = False
            self._base = f"http://127.0.0.1:{self._port()}/session"
            options = {"binary": chromium, "args": [*_FLAGS, f"--user-data-dir={profile}"]}
            asked = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
            self._base += "/" + self._ask("POST", "", asked)["sessionId"]
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._ask("DELETE", "")
        finally:
            self._end()

    def open(self, address: str) -> None:
        """Type an address. One that leads nowhere shows the browser's own page, under that address."""
        try:
            self._ask("POST", "/url", {"url": address})
        except WebDriverError as error:
            if "net::ERR_" not in str(error):
                raise

    @property
    def address(self) -> str:
        """The line of the address bar."""
        return str(self._ask("GET", "/url"))

    @property
    def text(self) -> str:
        """What is to be read on the page."""
        return str(self._ask("POST", "/execute/sync", {"script": "return document.body.innerText", "args": []}))

    def history(self) -> list[str]:
        """The addresses that its Back and Forward lead through."""
        asked = {"cmd": "Page.getNavigationHistory", "params": {}}
        return [entry["url"] for entry in self._ask("POST", "/goog/cdp/execute", asked)["entries"]]

    def run(self, script: str) -> Any:
        """What a script returns that this test puts into the page, which a Content-Security-Policy does not stop."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def show(self, width: int, height: int, *, is_dark: bool = False) -> None:
        """Have a window so wide and high, in CSS pixels, on a system in dark or light mode."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < _PHONE}
        mode = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        for cmd, params in (
            ("Emulation.setDeviceMetricsOverride", size),
            ("Emulation.setEmulatedMedia", {"features": [mode]}),
        ):
            self._ask("POST", "/goog/cdp/execute", {"cmd": cmd, "params": params})

    def picture(self) -> bytes:
        """What is to be seen, as PNG."""
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def press(self, *keys: str) -> None:
        """Press keys one after another, wherever the focus is: letters, or a name of `KEYS`."""
        typed = [KEYS.get(key, key) for key in keys]
        actions = [{"type": kind, "value": key} for key in typed for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    @property
    def focused(self) -> str:
        """What a screen reader says of where the focus is: its label, or its words; empty where it is nowhere."""
        script = """
            const found = document.activeElement, label = found.labels && found.labels[0];
            return found === document.body ? '' : (label || found).textContent.trim().replace(/\\s+/g, ' ');
        """
        return str(self.run(script))

    def tab_to(self, words: str) -> None:
        """Press Tab until the focus is on something with these words. Raises `AssertionError`."""
        seen: list[str] = []
        while words not in (seen[-1:] or [""])[0]:
            assert len(seen) < _MOST_TABS, f"Tab never came to {words!r}; it came to:\n{seen}"
            self.press("Tab")
            seen.append(self.focused)

    def fill(self, selector: str, text: str) -> None:
        """Type into the field that this CSS selector finds, once there is one."""
        self._ask("POST", f"/element/{self._element('css selector', selector)}/value", {"text": text})

    def click(self, words: str) -> None:
        """Press the button or link with these words, once there is one."""
        found = f"//*[self::button or self::a][contains(normalize-space(.), '{words}')]"
        try:
            self._ask("POST", f"/element/{self._element('xpath', found)}/click", {})
        except WebDriverError as error:
            if "net::ERR_" not in str(error):
                raise

    def wait_for(self, words: str) -> None:
        """Until they are to be read on the page, or in its address. Raises `AssertionError`."""
        ends = time.monotonic() + DEADLINE_SECONDS
        while words not in (seen := f"{self.address}\n{self.text}"):
            assert time.monotonic() < ends, f"{words!r} never came; there was:\n{seen}"
            time.sleep(_TURN_SECONDS)

    def _element(self, using: str, value: str) -> str:
        ends = time.monotonic() + DEADLINE_SECONDS
        while not (found := self._ask("POST", "/elements", {"using": using, "value": value})):
            assert time.monotonic() < ends, f"no {value} on the page; there was:\n{self.address}\n{self.text}"
            time.sleep(_TURN_SECONDS)
        return str(found[0][_ELEMENT])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._http.request(method, self._base + path, json=body, timeout=DEADLINE_SECONDS).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise WebDriverError(f"{answer['error']}: {answer.get('message', '')}")
        return answer

    def _port(self) -> int:
        """From the line that says that it serves."""
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                return int(found[1])
        raise AssertionError("chromedriver does not start")

    def _end(self) -> None:
        self._driver.terminate()
        self._driver.wait(DEADLINE_SECONDS)
        assert self._driver.stdout is not None
        self._driver.stdout.close()


class WebDriverError(Exception):
    """The driver's word for what it could not do."""
