"""Keep every page free of what it does not use and of addresses outside the book.

Jupyter Book always loads `sphinx_thebe`, which writes the address of a script host into every page
even when it is switched off. Its script, its style and its settings are taken out again here.
"""

from pathlib import Path


def _of_thebe(asset) -> bool:
    name = str(getattr(asset, "filename", asset) or "")
    body = str(getattr(asset, "attributes", {}).get("body") or "")
    return "thebe" in name.lower() or "thebe" in body.lower()


def drop_thebe(app, pagename, templatename, context, doctree) -> None:
    for assets in ("script_files", "css_files"):
        context[assets] = [asset for asset in context.get(assets, []) if not _of_thebe(asset)]


def remove_files(app, exception) -> None:
    if exception is None:
        for path in (Path(app.outdir) / "_static").glob("sphinx-thebe.*"):
            path.unlink()


def setup(app):
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("build-finished", remove_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
