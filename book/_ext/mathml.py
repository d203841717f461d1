"""Mathematics as MathML, written while the book is built.

Every current browser draws MathML itself, and screen readers read it, so the pages need no script
and no downloaded fonts for their formulas. The translator is the one that docutils carries. A
formula that it does not understand is a build warning that names the page and the line.
"""

import re
from html import escape

from docutils import nodes
from docutils.utils.math import latex2mathml, pick_math_environment
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

THIN_SPACE = '<mspace width="0.1667em"></mspace>'
BEFORE_ARGUMENT = re.compile(r"<mo>&ApplyFunction;</mo>(?!<mo[^>]*>[(\[{]|<mrow><mo)")


def to_mathml(tex: str, block: bool = False) -> str:
    r"""One formula as a `<math>` element that keeps its TeX source as `alttext`.

    Raises SyntaxError when the translator does not know a command.

    >>> to_mathml(r"z^2").partition("MathML")[2]
    '"><msup><mi>z</mi><mn>2</mn></msup></math>'
    """
    # The translator knows `aligned`, which looks the same: numbers are written by `visit_block`.
    source = re.sub(r"\\(begin|end)\{align\*?\}", r"\\\1{aligned}", tex.strip())
    if block and source == tex.strip() and pick_math_environment(source) == "align*":
        source = rf"\begin{{aligned}}{source}\end{{aligned}}"
    element = latex2mathml.tex2mathml(source, as_block=block)
    # One line: the indentation of the translator would show up as text in search summaries.
    element = "".join(line.strip() for line in element.splitlines())
    # "log p": browsers leave no space after a function's name.
    element = BEFORE_ARGUMENT.sub(r"\g<0>" + THIN_SPACE, element)
    return element.replace("<math ", f'<math alttext="{escape(tex.strip())}" ', 1)


def _translate(node: nodes.Element, block: bool) -> str:
    try:
        return to_mathml(node.astext(), block=block)
    except (SyntaxError, latex2mathml.MathError) as error:
        logger.warning("formula not understood: %s", error, location=node)
        return f"<code>{escape(node.astext())}</code>"


def visit_inline(self, node: nodes.math) -> None:
    self.body.append(f'<span class="math">{_translate(node, block=False)}</span>')
    raise nodes.SkipNode


def visit_block(self, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math math-block", TABINDEX="0"))
    self.body.append(_translate(node, block=True))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
