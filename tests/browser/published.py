"""Figures of a published book: where they are, what their contracts say, and whether it is kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import expect

from .figure import Figure

ROOM = "_static/pplwidgets"
_REPLAY = """async ([assets, file, settings]) => {
  const page = await import(assets + "page.js");
  return page.replay(file, assets, settings);
}"""


def live(page, place: int = 0) -> Figure:
    """The figure at this place of the page, once it is live."""
    where = page.locator(".pplkit-page").nth(place)
    where.scroll_into_view_if_needed()
    figure = Figure.within(where.locator(".pplkit-host"))
    expect(where).to_have_class(re.compile("pplkit-is-live"))
    return figure


def settled(figure: Figure):
    figure.wait_until(
        lambda: figure.root.get_attribute("data-settled") == "true", "the figure is settled"
    )


def assets(site) -> str:
    return f"{site.url}{ROOM}/{next((Path(site.folder) / ROOM).glob('page-*')).name}/"


def contracts(site) -> list[tuple[str, dict]]:
    found = sorted((Path(site.folder) / ROOM / "figures").glob("*.contract.json"))
    return [(path.name, json.loads(path.read_text(encoding="utf-8"))) for path in found]


def broken(page, site, contract) -> list[str]:
    """Where a page's numbers are further from torch's than its contract allows."""
    wanted = [each for each in contract["settings"] if "answers" in each]
    asked = [{"controls": each["controls"], "seed": each["seed"]} for each in wanted]
    file = f"{site.url}{ROOM}/figures/{contract['figure']}"
    answers = page.evaluate(_REPLAY, [assets(site), file, asked])
    found = []
    for setting, given in zip(wanted, answers, strict=True):
        for table, columns in setting["answers"].items():
            for name, column in columns.items():
                answer = given[table].get(name, [])  # a table without rows has no columns here
                assert len(answer) == len(column), f"{table}.{name} at {setting['controls']}"
                for a, b in zip(answer, column, strict=True):
                    far = b is not None and (a is None or not abs(a - b) <= 1e-4 * (1 + abs(b)))
                    if far:
                        found.append(f"{table}.{name}: {a} for {b} at {setting['controls']}")
    return found
