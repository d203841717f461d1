"""Launch buttons for whoever publishes a copy: all of them from `repository.url` in _config.yml.

Without an address there is no button, whatever else is set. With one, Binder opens the notebook,
Colab does where the copy is on GitHub, and a JupyterHub of one's own does where
`launch_buttons.jupyterhub_url` names it.
"""

import re

from sphinx.util import logging

logger = logging.getLogger(__name__)

BINDER = "https://mybinder.org"
COLAB = "https://colab.research.google.com"
KINDS = ("binderhub_url", "colab_url", "jupyterhub_url", "deepnote_url", "jupyterlite_url")


def places(url: str, given: dict) -> dict:
    """Who may be asked to open a notebook of the repository at `url`.

    >>> places("", {"jupyterhub_url": "https://hub.example"})
    {}
    >>> sorted(places("https://github.com/a/book", {}))
    ['binderhub_url', 'colab_url']
    >>> sorted(places("https://gitlab.com/a/book", {"jupyterhub_url": "https://hub.example"}))
    ['binderhub_url', 'jupyterhub_url']
    """
    if not url:
        return {}
    own = {kind: given[kind] for kind in KINDS if given.get(kind)}
    found = {"binderhub_url": BINDER, "colab_url": COLAB} | own
    if "github.com/" not in url:
        found.pop("colab_url")
    return found


def configure(app, config) -> None:
    options = config.html_theme_options
    given = dict(options.get("launch_buttons") or {})
    url = (options.get("repository_url") or "").strip().rstrip("/").removesuffix(".git")
    if url and not re.fullmatch(r"https?://[^/\s]+/[^/\s]+/\S+", url):
        logger.warning(
            "repository.url is %r, and no address of a repository such as"
            " https://github.com/you/your-copy: no launch buttons",
            url,
        )
        url = ""
    options["repository_url"] = url
    kept = {key: value for key, value in given.items() if key not in KINDS}
    options["launch_buttons"] = kept | places(url, given)


def setup(app):
    app.connect("config-inited", configure)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
