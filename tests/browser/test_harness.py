"""The harness itself can see what it is there to see, and can fail."""

from __future__ import annotations

import re

import psutil
import pytest

from .conftest import ROOT
from .notebook import surprises
from .servers import Lab, ServerFailed, Site

HTML = "<!doctype html><html lang='en'><title>t</title>{}"


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "a site"
    folder.mkdir()
    with Site(folder) as site:
        yield site


def kinds(page):
    return [complaint.kind for complaint in page.watch.complaints]


def show(page, site, body):
    (site.folder / "index.html").write_text(HTML.format(body), encoding="utf-8")
    page.watch.expect("")  # whatever comes was asked for
    page.goto(site.url)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<script>console.error('oh')</script>", "console"),
        ("<script>throw new Error('oh')</script>", "exception"),
        ("<script>Promise.reject(new Error('oh'))</script>", "exception"),
        ("<img src='missing.png' alt=''>", "status"),
        ("<img src='/above.png' alt=''>", "status"),
        ("<img src='https://pplkit.invalid/x.png' alt=''>", "refused"),
        ("<link rel=stylesheet href='//pplkit.invalid/x.css'>", "refused"),
        ("<script>fetch('http://127.0.0.2:9/')</script>", "refused"),
        ("<script>fetch('http://127.0.0.1.pplkit.invalid/')</script>", "refused"),
        ("<script>new WebSocket('wss://pplkit.invalid/x')</script>", "refused"),
        ("<iframe title=t src='https://pplkit.invalid/'></iframe>", "refused"),
        ("<script>fetch('http://127.0.0.1:1/')</script>", "failed"),
    ],
)
def test_a_complaint_is_seen(page, site, body, kind):
    show(page, site, body)
    page.wait_for_load_state("networkidle")
    assert kind in kinds(page)
    assert page.watch.unexpected() == []
    page.watch.expected.clear()
    assert page.watch.unexpected() != []
    page.watch.expect("")


def test_a_quiet_page_has_no_complaint(page, site):
    (site.folder / "own.css").write_text("body { margin: 0 }", encoding="utf-8")
    show(page, site, "<link rel=stylesheet href=own.css><link rel=icon href='data:,'><p>well</p>")
    page.wait_for_load_state("networkidle")
    assert page.watch.complaints == []


def test_the_site_serves_its_folder_and_nothing_else(site, tmp_path, page):
    (tmp_path / "secret.txt").write_text("no", encoding="utf-8")
    (site.folder / "index.html").write_text("yes", encoding="utf-8")
    base = site.url
    assert page.request.get(base).text() == "yes"
    assert page.request.get(base + "%2e%2e/secret.txt").status == 404
    assert page.request.get(re.sub("/a/b/$", "/", base)).status == 404


def test_a_server_that_cannot_start_says_why(tmp_path):
    server = Lab(tmp_path / "nowhere", home=tmp_path, settings=tmp_path)
    with pytest.raises(ServerFailed, match=r"ended by itself(.|\n)*nowhere"), server:
        pass


def test_lab_runs_a_notebook_and_sees_what_went_wrong(lab, open_notebook):
    import nbformat

    code = nbformat.v4.new_code_cell
    wrong = code("1 / 0", metadata={"tags": ["raises-exception"]})
    cells = [
        code("print('hello')"),
        code("6 * 7"),
        wrong,
        code("raise ValueError('unannounced')"),
        code("2"),
    ]
    path = lab.root / "harness.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    notebook = open_notebook("harness.ipynb")
    ran = notebook.run_all()
    assert [cell.text for cell in ran[:2]] == ["hello\n", "42"]
    assert [re.sub(r"^cell (\d).*(raised|did).*", r"\1 \2", line) for line in surprises(ran)] == [
        "3 raised",
        "4 did",
    ]
    assert notebook.ask("print(_)").strip() == "42"
    assert notebook.ask_json("x = 3", "{'x': x}") == {"x": 3}
    with pytest.raises(AssertionError, match="NameError"):
        notebook.ask("nothing_of_this_name")


def test_lab_leaves_no_process_behind(tmp_path):
    (tmp_path / "root").mkdir()
    with Lab(tmp_path / "root", home=tmp_path, settings=tmp_path) as server:
        family = psutil.Process(server._process.pid).children(recursive=True)
        family.append(psutil.Process(server._process.pid))
    assert not [process for process in family if process.is_running()]


def test_the_finder_names_the_remedy(monkeypatch, tmp_path):
    from tools import browser

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    monkeypatch.setattr(browser, "APPLICATIONS", ())
    monkeypatch.delenv("PPLKIT_BROWSER", raising=False)
    with pytest.raises(browser.BrowserMissing, match="install"):
        browser.find()
    monkeypatch.setenv("PPLKIT_BROWSER", "no-such-program")
    with pytest.raises(browser.BrowserMissing, match="no-such-program"):
        browser.find()


def test_the_books_copy_leaves_the_tree_alone(lab):
    assert ROOT not in lab.root.parents
