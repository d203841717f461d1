"""The two servers that the browser is pointed at: a JupyterLab, and a static server under a sub-path."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

START_LIMIT = 180  # seconds that a loaded machine is given to start JupyterLab


class ServerFailed(RuntimeError):
    """A server did not start, or ended early; the message carries the end of its log."""


class Lab:
    """A JupyterLab of its own: loopback, a free port, a random token, and every folder it writes in `home`.

    `root` is what the learner sees as the top folder, `settings` the folder of Jupyter settings that
    `make lab` uses too. Use it as a context manager: leaving it ends the server and its kernels,
    whatever state they are in.
    """

    def __init__(self, root: Path, home: Path, settings: Path):
        self.root, self.home, self.settings = root, home, settings
        self.token = secrets.token_hex(16)
        self.log_path = home / "jupyterlab.log"
        self.url = None
        self._process = None

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def page_url(self, path: str) -> str:
        """The address that opens the file `path` (relative to `root`) in an empty workspace."""
        return f"{self.url}lab/workspaces/tests/tree/{path}?token={self.token}&reset"

    def log(self, lines: int = 60) -> str:
        if not self.log_path.exists():
            return ""
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "IPYTHON"))}
        folders = {
            "HOME": "home",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        for name, folder in folders.items():
            (self.home / folder).mkdir(parents=True, exist_ok=True)
            env[name] = str(self.home / folder)
        env["JUPYTER_TOKEN"] = self.token
        env["JUPYTER_CONFIG_PATH"] = str(self.settings)
        env["PYTHONUNBUFFERED"] = "1"
        return env

    def _start(self):
        env = self._environment()
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={_free_port()}",
            "--ServerApp.port_retries=50",
            f"--ServerApp.root_dir={self.root}",
            "--LabApp.expose_app_in_browser=True",  # window.jupyterapp: what the helpers wait on
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-root")
        with open(self.log_path, "wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.home,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            if self._process.poll() is not None:
                raise ServerFailed(f"JupyterLab ended by itself. Its log:\n{self.log()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"JupyterLab did not answer. Its log:\n{self.log()}")
            time.sleep(0.2)

    def _answers(self):
        for path in (self.home / "runtime").glob("jpserver-*.json"):
            with contextlib.suppress(ValueError, OSError, KeyError, urllib.error.URLError):
                self.url = json.loads(path.read_text(encoding="utf-8"))["url"]
                request = urllib.request.Request(
                    self.url + "api/status", headers={"Authorization": f"token {self.token}"}
                )
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                    request, timeout=10
                ):
                    return True
        return False

    def stop(self):
        """End the server and every process under it."""
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self._process.pid).children(recursive=True)
            self._process.terminate()  # the server first: it ends its kernels in order
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=20)
            # A kernel leads a group of its own, so the server's group alone would miss it.
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None


class Site:
    """Serves `folder` at `http://127.0.0.1:PORT/PREFIX/` and nothing outside it, as a static host would."""

    def __init__(self, folder: Path, prefix: str = "/a/b/"):
        handler = functools.partial(_Handler, folder=str(folder), prefix=prefix)
        self._server = _Server(("127.0.0.1", 0), handler)
        self.folder = folder
        self.url = f"http://127.0.0.1:{self._server.server_port}{prefix}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        # A browser that leaves a page hangs up in the middle of an answer: nobody's fault.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args, folder, prefix, **kwargs):
        self.prefix = prefix
        super().__init__(*args, directory=folder, **kwargs)

    def send_head(self):
        if not self.path.startswith(self.prefix):
            self.send_error(404, "Outside the book's own folder")
            return None
        return super().send_head()

    def translate_path(self, path):
        return super().translate_path("/" + path[len(self.prefix) :])

    def log_message(self, *_):
        pass


def copy_book(book: Path, target: Path) -> Path:
    """A copy of the book's sources for learners to change, without anything built."""
    return Path(
        shutil.copytree(
            book, target, ignore=shutil.ignore_patterns("_build", ".ipynb_checkpoints", ".*")
        )
    )


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
