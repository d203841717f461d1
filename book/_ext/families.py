"""The table of families that a published page computes, made from the tests' own record.

Nothing runs while the book is built. What is printed is what the tests hold true.
"""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

RECORD = Path(__file__).resolve().parents[2] / "tests" / "capture" / "families.json"
ASPECTS = {
    "density": "density",
    "cdf": "distribution function",
    "draw": "draw",
    "gradient": "gradient of the log-density",
}


def words(outcome: dict | None) -> str:
    """What stands in a cell.

    >>> words({"is": "live", "bytes": 2311})
    'live, 2.3 kB'
    >>> words({"is": "no form"})
    'none'
    >>> words(None)
    'not tried'
    """
    if outcome is None:
        return "not tried"
    if outcome["is"] == "live":
        return f"live, {outcome['bytes'] / 1000:.1f} kB"
    return "none" if outcome["is"] == "no form" else "not live"


class Families(SphinxDirective):
    """`{families}`: a row for each family, a column for each of what is computed of it."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RECORD))
        found = json.loads(RECORD.read_text(encoding="utf-8"))
        table = nodes.table(classes=["families"])
        group = nodes.tgroup(cols=1 + len(ASPECTS))
        group += [nodes.colspec(colwidth=1) for _ in range(1 + len(ASPECTS))]
        head = nodes.thead()
        head += self.row(["family", *ASPECTS.values()])
        body = nodes.tbody()
        for name in sorted(found):
            cells = [words(found[name].get(aspect)) for aspect in ASPECTS]
            body += self.row([nodes.literal(name, name), *cells])
        group += [head, body]
        table += group
        return [table]

    def row(self, cells: list) -> nodes.row:
        made = nodes.row()
        for cell in cells:
            inside = nodes.Text(cell) if isinstance(cell, str) else cell
            made += nodes.entry("", nodes.paragraph("", "", inside))
        return made


def setup(app):
    app.add_directive("families", Families)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
