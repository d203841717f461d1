"""The page of mistakes, made from their files: programs, messages and Pyro's answers.

Nothing runs while the book is built. What is printed is what the tests hold true.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

CATALOGUE = Path(__file__).resolve().parents[2] / "tests" / "catalogue"


def load(name: str):
    """A module of the catalogue, by its file: the tests are not on a book's path."""
    full = f"pplkit_catalogue_{name}"
    spec = importlib.util.spec_from_file_location(full, CATALOGUE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module  # where a dataclass looks for its module
    spec.loader.exec_module(module)
    return module


def anchor(name: str) -> str:
    """Where a mistake stands on the page; stable, for it is made of its file's name.

    >>> anchor("plate_of_nothing")
    'plate-of-nothing'
    """
    return name.replace("_", "-")


def inline(text: str) -> list[nodes.Node]:
    """Text with `code` in backticks."""
    parts = re.split(r"`([^`]+)`", text)
    return [nodes.literal(p, p) if i % 2 else nodes.Text(p) for i, p in enumerate(parts) if p]


def paragraph(label: str, text: str) -> nodes.paragraph:
    return nodes.paragraph("", "", nodes.strong(label, label), nodes.Text(" "), *inline(text))


def listing(text: str, language: str, *classes: str, line: int | None = None) -> nodes.Node:
    block = nodes.literal_block(text, text, language=language, classes=[*classes])
    if line is not None:
        block["highlight_args"] = {"hl_lines": [line]}
    return block


def folded(summary: str, *inside: nodes.Node) -> list[nodes.Node]:
    opened = f'<details class="mistake-pyro"><summary>{summary}</summary>'
    return [
        nodes.raw("", opened, format="html"),
        *inside,
        nodes.raw("", "</details>", format="html"),
    ]


class Mistakes(SphinxDirective):
    """`{mistakes}`: a table of contents, and then every mistake under its group."""

    def run(self) -> list[nodes.Node]:
        cases, judge = load("cases"), load("judge")
        for path in (*CATALOGUE.glob("*.py"), *CATALOGUE.glob("programs/*"), cases.PYRO):
            self.env.note_dependency(str(path))
        record = cases.pyro_answers()
        self.lacks, self.answers = judge.lacks, record["answers"]
        self.pyro = f"Pyro {record['versions']['pyro']}"
        known = cases.catalogue()
        groups = [(name, [c for c in known if c.group == name]) for name in cases.GROUPS]
        groups = [(name, inside) for name, inside in groups if inside]
        found = [self.contents(groups)]
        for name, inside in groups:
            section = self.section("mistakes " + name, name)
            section += [self.mistake(case) for case in inside]
            found.append(section)
        return found

    def section(self, name: str, title: str) -> nodes.section:
        made = nodes.section(ids=[nodes.make_id(name)], names=[nodes.fully_normalize_name(name)])
        made += nodes.title(title, "", *inline(title))
        self.state.document.note_explicit_target(made, made)
        return made

    def contents(self, groups) -> nodes.Node:
        listed = nodes.bullet_list(classes=["mistake-contents"])
        for name, inside in groups:
            links = nodes.bullet_list()
            for case in inside:
                link = nodes.reference("", "", *inline(case.title), refid=anchor(case.name))
                links += nodes.list_item("", nodes.paragraph("", "", link))
            head = nodes.reference("", name, refid=nodes.make_id("mistakes " + name))
            listed += nodes.list_item("", nodes.paragraph("", "", head), links)
        return listed

    def mistake(self, case) -> nodes.section:
        section = self.section(anchor(case.name), case.title)
        section += listing(case.program.rstrip("\n"), "python", "mistake-program", line=case.line)
        accepted = case.answer.removeprefix("accepted: ")
        if accepted != case.answer:
            text = "pplkit takes it as it is. The outcome:"
            section += nodes.paragraph("", text)
        section += listing(accepted, "none", "mistake-message")
        section += paragraph("Why.", case.why)
        section += paragraph("Cure.", case.cure)
        section += self.of_pyro(case, accepted == case.answer)
        return section

    def of_pyro(self, case, refused: bool) -> list[nodes.Node]:
        answer = self.answers[case.name]
        text = listing(answer["text"].strip("\n") or " ", "none", "mistake-message")
        if answer["kind"] == "silence":
            also = "" if refused else " too"
            return folded(f"{self.pyro} takes it as it is{also}. The outcome:", text)
        missing = self.lacks(answer["kind"], answer["text"], case.site)
        words = {"location": "the place", "site": "the site", "remedy": "a remedy"}
        told = [words.get(aspect, "what was found") for aspect in missing]
        without = f", without {' or '.join(told)}" if told else ""
        return folded(f"{self.pyro} answers{without}", text)


class Prelude(SphinxDirective):
    """`{mistakes-prelude}`: the imports that every program begins with."""

    def run(self) -> list[nodes.Node]:
        return [listing(load("cases").PRELUDE.rstrip("\n"), "python")]


def setup(app):
    app.add_directive("mistakes-prelude", Prelude)
    app.add_directive("mistakes", Mistakes)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
