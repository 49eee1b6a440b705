"""Opens pages in headless Chromium: files and addresses on this machine.

The browser is Chromium on the PATH, else Debian's, unpacked into the user's cache.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulation import apt

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PACKAGE = "chromium-headless-shell"
INSTALLED = Path("/var/lib/dpkg/status")
TIMEOUT = 20_000  # milliseconds that an action may take on a busy machine


@dataclass
class Opened:
    """A page; ``errors`` are those of its script and console, ``loaded`` what it asked for."""

    page: Any
    errors: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    @property
    def dom(self) -> str:
        """The document as it is now."""
        return str(self.page.content())


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser of Playwright, for one module of tests: it holds an event loop open."""
    from playwright.sync_api import sync_playwright

    program, libraries = _program()
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries} if libraries else {**os.environ}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, env=environment)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Any, address: str | Path, width: int = 1000, dark: bool = False
) -> Iterator[Opened]:
    """A file or an address, opened in a window of its own."""
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(TIMEOUT)
    found = Opened(context.new_page())
    found.page.on("pageerror", lambda error: found.errors.append(str(error)))
    found.page.on("console", lambda said: _note(found.errors, said))
    found.page.on("request", lambda request: found.loaded.append(request.url))
    found.page.goto(address.resolve().as_uri() if isinstance(address, Path) else address)
    yield found
    context.close()


def _note(errors: list[str], said: Any) -> None:
    if said.type in ("error", "warning"):
        errors.append(said.text)


def _program() -> tuple[Path, str]:
    """The browser, and the folders of the libraries that came with it."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return Path(found), ""
    folder = apt.unpacked([PACKAGE], installed=INSTALLED)
    libraries = {file.parent for file in (folder / "usr" / "lib").glob("*-linux-gnu/**/*.so*")}
    libraries |= {file.parent for file in (folder / "lib").glob("*-linux-gnu/**/*.so*")}
    return folder / "usr/lib/chromium" / PACKAGE, ":".join(map(str, sorted(libraries)))
