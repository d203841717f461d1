"""A Sphinx extension: live figures in a book's pages, where no kernel answers.

One line in the `_config.yml` of a Jupyter Book turns it on:

    sphinx:
      extra_extensions: [pplwidgets.sphinx]

Figures that executed notebooks show are computed by the pages themselves. All that they load lies
once in the book, under `_static/pplwidgets`, in folders named by their contents; nothing is asked
for elsewhere. A page without figures loads nothing of it, and what carries other ipywidgets
(require.js and the html-manager) is loaded by pages that show some, from the book as well.
"""

from __future__ import annotations

import hashlib
import html
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from .publish import MIME, VARIABLE
from .still import STATIC, asset

ROOM = "_static/pplwidgets"
_STATE = "application/vnd.jupyter.widget-state+json"
_VIEW = "application/vnd.jupyter.widget-view+json"
_PATIENCE = 900  # seconds for one cell
_MARK = f'<script type="{MIME}">'
_CARRIED = re.compile(re.escape(_MARK) + r"(.*?)</script>", re.DOTALL)
_LINKS = ("LinkModel", "DirectionalLinkModel")


def setup(app) -> dict:
    """Called by Sphinx."""
    once = tempfile.TemporaryDirectory(prefix="pplwidgets-", ignore_cleanup_errors=True)
    os.environ[VARIABLE] = once.name  # kernels that run the notebooks inherit it
    app.connect("build-finished", lambda *_: once.cleanup())
    app.connect("config-inited", _configure)
    app.connect("env-before-read-docs", _run_side_by_side)
    app.connect("doctree-resolved", _place_figures)
    app.connect("html-page-context", _keep_live_state, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _configure(app, config) -> None:
    """Widgets' scripts come from the book, not from elsewhere; cells have the time they need."""
    if "nb_ipywidgets_js" in config.values:
        config.nb_ipywidgets_js = {}
    # A cell that shows a figure makes programs of it, each a matter of seconds.
    if "nb_execution_timeout" in config.values and 0 < config.nb_execution_timeout < _PATIENCE:
        config.nb_execution_timeout = _PATIENCE
    if "nb_execution_mode" in config.values and config.nb_execution_mode == "cache":
        room = Path(config.nb_execution_cache_path or Path(app.outdir).parent / ".jupyter_cache")
        config.nb_execution_cache_path = str(_cache(room, Path(app.srcdir)))


def _cache(room: Path, book: Path) -> Path:
    """Where notebooks are kept that today's engine and widgets have run, on the book's files as
    they are: a cache of notebooks looks at their cells alone. What others have run goes.
    """
    mine = room / f"pplkit-{_run_by(book)}"
    for other in room.glob("pplkit-*"):
        if other != mine:
            shutil.rmtree(other, ignore_errors=True)
    return mine


def _run_by(book: Path) -> str:
    """A digest of what a notebook's outputs depend on beside its cells."""
    digest = hashlib.sha256()
    for module in ("pplkit", "pplwidgets"):
        home = Path(importlib.util.find_spec(module).origin).parent
        _add_files(digest, home, lambda path: "__pycache__" not in path.parts)
    texts = (".ipynb", ".md", ".rst", ".bib", ".css")  # no cell reads how a page looks
    _add_files(digest, book, lambda path: path.suffix not in texts and not _hidden(path))
    installed = {f"{d.name} {d.version}" for d in importlib.metadata.distributions()}
    digest.update("\n".join(sorted(installed)).encode())
    return digest.hexdigest()[:16]


def _run_side_by_side(app, env, docnames: list[str]) -> None:
    """Run what the cache does not have, as many notebooks at once as there are processors: they
    are read one after the other, and each then finds its outputs there. One that fails is left to
    the reading, which tells of it.
    """
    config = app.config
    if getattr(config, "nb_execution_mode", "") != "cache" or config.nb_execution_in_temp:
        return
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    cache = get_cache(config.nb_execution_cache_path)
    todo = [path for path in _notebooks(app, env, docnames) if not _is_kept(cache, path)]
    if not todo:
        return
    todo.sort(key=_figures, reverse=True)  # what takes longest begins first
    with ThreadPoolExecutor(min(_processors(), len(todo))) as pool:
        running = {pool.submit(_run, path, config): path for path in todo}
        for done in as_completed(running):
            path, result = running[done], done.result()
            if result.err is None:
                took = {"execution_seconds": result.time}
                made = CacheBundleIn(result.nb, str(path), data=took)
                cache.cache_notebook_bundle(made, check_validity=False, overwrite=True)


def _notebooks(app, env, docnames: list[str]):
    """Those of the documents that are notebooks, and are to be run."""
    for name in docnames:
        path = Path(env.doc2path(name)).resolve()
        skipped = (path.match(pattern) for pattern in app.config.nb_execution_excludepatterns)
        if path.suffix == ".ipynb" and not any(skipped):
            yield path


def _figures(path: Path) -> int:
    return len(re.findall(r"\bpplwidgets\.\w+\(", path.read_text(encoding="utf-8")))


def _is_kept(cache, path: Path) -> bool:
    import nbformat

    try:
        cache.match_cache_notebook(nbformat.read(path, 4))
    except KeyError:
        return False
    return True


def _run(path: Path, config):
    import nbformat
    from jupyter_cache.executors.utils import single_nb_execution

    return single_nb_execution(
        nbformat.read(path, 4),
        cwd=str(path.parent),
        allow_errors=config.nb_execution_allow_errors,
        timeout=config.nb_execution_timeout,
    )


def _processors() -> int:
    """How many this process may use, up to four: each kernel holds a torch."""
    here = hasattr(os, "sched_getaffinity")  # which knows what a container may use
    return min(4, len(os.sched_getaffinity(0)) if here else os.cpu_count() or 1)


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _add_files(digest, home: Path, counts) -> None:
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home)
        if path.is_file() and counts(name):
            digest.update(f"{name.as_posix()} {path.stat().st_size} ".encode())
            digest.update(path.read_bytes())


# -- figures ---------------------------------------------------------------------------------------


def _place_figures(app, doctree, docname: str) -> None:
    """Put what figures carry beside the pages, and leave in the page where it is."""
    from docutils import nodes

    seen: dict[str, int] = {}
    for node in list(doctree.findall(nodes.raw)):
        if "html" not in node.get("format", "") or _MARK not in node.astext():
            continue
        text = _CARRIED.sub("", node.astext())
        carried = json.loads(_CARRIED.search(node.astext())[1])
        if carried["trouble"]:
            _warn(node, carried["trouble"])
        elif carried["page"] and app.builder.format == "html" and app.builder.name != "epub":
            text = _figure(app, docname, text, carried, seen)
        # Without the class for which themes put a light ground under it in dark pages.
        classes = [name for name in node["classes"] if name != "text_html"]
        new = nodes.raw("", text, format="html")
        new.source, new.line = node.source, node.line
        node.replace_self(new)
        new["classes"] = classes


def _warn(node, trouble: str) -> None:
    from sphinx.util import logging

    logging.getLogger(__name__).warning(
        "a live figure stays a picture in the book: %s", trouble, location=node, type="pplwidgets"
    )


def _figure(app, docname: str, still: str, carried: dict, seen: dict[str, int]) -> str:
    import base64

    room = Path(app.outdir) / ROOM
    for name, data in carried["files"].items():
        _write(room / "figures" / name, base64.b64decode(data))
    page = json.dumps(carried["page"], separators=(",", ":"))
    name = hashlib.sha256(page.encode("utf-8")).hexdigest()[:16]
    contract = {**carried["contract"], "figure": f"{name}.json"}
    _write(room / "figures" / f"{name}.json", page.encode("utf-8"))
    if carried["contract"]:  # there is none where nothing is computed
        _write(room / "figures" / f"{name}.contract.json", json.dumps(contract).encode("utf-8"))
    title = carried["page"]["words"]["title"]
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or "figure"
    seen[slug] = seen.get(slug, 0) + 1
    key = slug if seen[slug] == 1 else f"{slug}-{seen[slug]}"
    figures, scripts = (_address(app, docname, f"{ROOM}/{part}") for part in
                        ("figures", _assets(app, "page")))  # fmt: skip
    return (
        f'<div class="pplkit-page" data-key="{html.escape(key)}"'
        f' data-figure="{figures}/{name}.json">{still}</div>'
        f'<script type="module" src="{scripts}/book.js"></script>'
    )


def _address(app, docname: str, path: str) -> str:
    """From a page to a file of the book; right under any folder of a server."""
    from sphinx.util.osutil import relative_uri

    return relative_uri(app.builder.get_target_uri(docname), path)


def _write(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _assets(app, part: str) -> str:
    """A folder of scripts, copied into the book; returns its name, which is that of its contents."""
    files = {path.name: path.read_bytes() for path in sorted((STATIC / part).glob("*"))}
    if not files:
        asset(f"{part}/book.js")  # says what is to be done
    if part == "widgets":
        import anywidget

        script = Path(anywidget.__file__).parent / "nbextension" / "index.js"
        files["anywidget.js"] = script.read_bytes()
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(name.encode() + len(data).to_bytes(8, "big") + data)
    folder = f"{part}-{digest.hexdigest()[:12]}"
    for name, data in files.items():
        _write(Path(app.outdir) / ROOM / folder / name, data)
    return folder


# -- other widgets ---------------------------------------------------------------------------------


def _keep_live_state(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Of the widgets' state, keep what the page shows; bring what carries it."""
    scripts = context.get("script_files")
    if scripts is None or app.builder.format != "html":
        return
    kept, states = [], []
    for script in scripts:
        attributes = getattr(script, "attributes", {})
        if attributes.get("type") == _STATE:
            states.append(attributes.get("body") or "")
        else:
            kept.append(script)
    if not states:
        return
    shown = set(re.findall(r'"model_id":\s*"(\w+)"', " ".join(_views(context.get("body", "")))))
    live: dict[str, Any] = {}
    for text in states:
        state = json.loads(text)
        live = {**state, "state": _live(state["state"], shown)}
    context["script_files"] = kept
    _warn_of_figures(pagename, live["state"], states)
    if live["state"]:
        context["body"] += _carriers(app, pagename, live)


def _warn_of_figures(pagename: str, shown: dict, states: list[str]) -> None:
    """A figure is live in a page where it is displayed itself."""
    from sphinx.util import logging

    every = {k: v for text in states for k, v in json.loads(text)["state"].items()}
    figures = {model for model, said in every.items() if "_runtime" in said.get("state", {})}
    linked = {
        end
        for said in every.values() if said.get("model_name") in _LINKS
        for end in _referred(said) if set(_referred(said)) & figures
    }  # fmt: skip
    warn = logging.getLogger(__name__).warning
    if figures & shown.keys():
        warn(
            "a live figure inside another widget does not move in the book: let a cell display the"
            " figure itself",
            location=pagename,
            type="pplwidgets",
        )
    elif linked & shown.keys():
        warn(
            "a widget that is linked with a live figure does not move it in the book: make it a"
            " control of the figure, live(..., name=widget)",
            location=pagename,
            type="pplwidgets",
        )


def _views(body: str) -> list[str]:
    """What the page's widget views say."""
    return re.findall(rf'<script type="{re.escape(_VIEW)}">(.*?)</script>', body, re.DOTALL)


def _live(state: dict[str, dict], shown: set[str]) -> dict[str, dict]:
    """The models that a page shows, those that they refer to, and the links between them."""
    found: set[str] = set()
    todo = [model for model in shown if model in state]
    while todo:
        model = todo.pop()
        if model in found:
            continue
        found.add(model)
        todo += [other for other in _referred(state[model]) if other in state]
        # A link is shown by nobody; it belongs where both its ends are.
        for other, linking in state.items():
            ends = set(_referred(linking))
            if linking.get("model_name") in _LINKS and ends <= found and other not in found:
                todo.append(other)
    return {model: said for model, said in state.items() if model in found}


def _referred(model: dict) -> list[str]:
    return re.findall(r"IPY_MODEL_(\w+)", json.dumps(model.get("state", {})))


# After the page's own scripts: one of those that met require.js would take itself for a module of it.
_LOADER = """addEventListener("load", () => {{
  const load = (name) => new Promise((done) => {{
    const script = document.createElement("script");
    script.onload = done;
    script.src = "{folder}/" + name;
    document.head.append(script);
  }});
  load("require.js").then(() => {{
    require.config({{paths: {{anywidget: "{folder}/anywidget"}}}});
    return load("embed-amd.js");
  }});
}});"""


def _carriers(app, pagename: str, state: dict) -> str:
    """The state, and the scripts that make widgets of it, in the order that works."""
    folder = _address(app, pagename, f"{ROOM}/{_assets(app, 'widgets')}")
    text = json.dumps(state, separators=(",", ":")).replace("</", "<\\/")
    loader = _LOADER.format(folder=folder)
    return f'<script type="{_STATE}">{text}</script><script>{loader}</script>'
