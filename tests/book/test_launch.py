"""Launch buttons: each leads to this notebook in the publisher's own copy, or is not there."""

import doctest
import importlib.util
import re
from html import unescape

import pytest

from tests.browser import small_book

ROOT = small_book.ROOT
URLS = {
    "https://github.com/ada/course.git": {
        "https://mybinder.org/v2/gh/ada/course/main?urlpath=lab/tree/lessons/one.ipynb",
        "https://colab.research.google.com/github/ada/course/blob/main/lessons/one.ipynb",
        (
            "https://hub.example/hub/user-redirect/git-pull?repo=https%3A//github.com/ada/course"
            "&urlpath=lab/tree/course/lessons/one.ipynb&branch=main"
        ),
    },
    "": set(),
}


def extension():
    path = ROOT / "book" / "_ext" / "launch.py"
    spec = importlib.util.spec_from_file_location("pplkit_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def book(folder, url):
    config = f"""\
title: A book
execute: {{execute_notebooks: "off"}}
repository: {{url: "{url}", path_to_book: lessons, branch: main}}
launch_buttons:
  notebook_interface: jupyterlab
  jupyterhub_url: https://hub.example
sphinx: {{local_extensions: {{launch: {ROOT / "book" / "_ext"}}}}}
"""
    return small_book.write(folder, config, one=["1 + 1"])


def test_examples_of_the_launch_buttons():
    assert doctest.testmod(extension()).failed == 0


@pytest.mark.parametrize("url", URLS, ids=["on GitHub", "unset"])
def test_the_buttons_that_are_there_lead_to_the_notebook(tmp_path, url):
    folder = book(tmp_path / "book", url)
    built = small_book.build(folder)
    assert built.returncode == 0, built.stdout
    page = (folder / "_build" / "html" / "one.html").read_text(encoding="utf-8")
    hosts = r'href="(https://(?:mybinder|colab|hub)\.[^"]+)"'
    found = {unescape(link) for link in re.findall(hosts, page)}
    assert found == URLS[url]
    assert ("btn-launch" in page or "dropdown-launch-buttons" in page) == bool(url)


def test_an_address_that_is_none_is_told(tmp_path):
    built = small_book.build(book(tmp_path / "book", "our-server"))
    assert built.returncode != 0
    assert "no address of a repository" in built.stdout
