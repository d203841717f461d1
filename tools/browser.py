"""Where a Chromium is on this machine: the one answer that set-up, tests and printing share."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
    "microsoft-edge",
)  # fmt: skip
APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
)
DOWNLOADED = (
    "chromium-*/chrome-linux*/chrome",
    "chromium-*/chrome-mac*/*.app/Contents/MacOS/*",
    "chromium-*/chrome-win*/chrome.exe",
)


class BrowserMissing(RuntimeError):
    """No Chromium was found; the message says how to get one."""


def find() -> Path:
    """The path of a Chromium or Chrome: PPLKIT_BROWSER's, the system's, or Playwright's own.

    Raises `BrowserMissing` when there is none.
    """
    named = os.environ.get("PPLKIT_BROWSER")
    if named:
        path = shutil.which(named)
        if path is None:
            raise BrowserMissing(
                f"PPLKIT_BROWSER is {named!r}, which is no program on this machine: correct it, or"
                " unset it."
            )
        return Path(path)
    for path in _candidates():
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise BrowserMissing(
        "The browser tests need Chromium or Chrome, and none was found: install the system's"
        " package (`apt-get install chromium`), or run `python -m playwright install chromium`, or"
        " name one in PPLKIT_BROWSER."
    )


def provide(python: Path) -> Path:
    """`find()`, after having a browser installed where there was none and this machine allows it.

    `python` is an interpreter that has Playwright.
    """
    try:
        return find()
    except BrowserMissing:
        if os.environ.get("PPLKIT_BROWSER"):
            raise
    for command in _ways_to_install(python):
        print(f"No Chromium here: {' '.join(command)}", file=sys.stderr, flush=True)
        ended = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if ended.returncode == 0:
            with contextlib.suppress(BrowserMissing):
                return find()
    return find()


def _ways_to_install(python):
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root and shutil.which("apt-get") and "debian" in _system_names():
        yield ["apt-get", "update"]
        yield ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
    playwright = [str(python), "-m", "playwright", "install"]
    if root:
        yield [*playwright, "--with-deps", "chromium"]
    yield [*playwright, "chromium"]


def _system_names():
    """`ID` of /etc/os-release: Ubuntu's package of the name only points to another installer."""
    with contextlib.suppress(OSError):
        for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
            if line.startswith("ID="):
                return line.removeprefix("ID=").strip('"').split()
    return []


def _candidates():
    for name in NAMES:
        path = shutil.which(name)
        if path:
            yield Path(path)
    yield from map(Path, APPLICATIONS)
    for pattern in DOWNLOADED:
        # The newest revision first: the folders end in its number.
        yield from sorted(_playwright_folder().glob(pattern), key=_revision, reverse=True)


def _revision(path):
    folder = next((part for part in path.parts if part.startswith("chromium-")), "-0")
    number = folder.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _playwright_folder():
    named = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    if named and named != "0":
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ms-playwright"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")
        return Path(local) / "ms-playwright"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ms-playwright"


if __name__ == "__main__":
    try:
        print(find())
    except BrowserMissing as missing:
        sys.exit(str(missing))
