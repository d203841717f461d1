"""A model's graph as SVG: drawn in the page's own colours, and read out by a screen reader."""

from __future__ import annotations

import unicodedata
from xml.sax.saxutils import escape, quoteattr

from .layout import Node, Picture, Plate

# Advance widths of Helvetica, in thousandths of its size, from the space on; Arial and Liberation
# Sans have the same.
_WIDTHS = (
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556,
    1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778,
    667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556,
    333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556,
    556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
)  # fmt: skip
NAME, PLATE, NOTE = 14, 12, 13  # sizes of text
LEAST = 0.65  # of its width: drawn smaller, names could not be read, and the page had better scroll
FONTS = "Helvetica, Arial, 'Liberation Sans', sans-serif"
INK, LIGHT_INK = "#1f2328", "#e6edf3"


def text_width(text: str, size: float) -> float:
    """How wide a line of text is, about.

    >>> text_width("theta", 14) < text_width("a much longer name", 14)
    True
    """
    return sum(map(_advance, text)) * size / 1000


def _advance(character: str) -> int:
    if 32 <= ord(character) < 127:
        return _WIDTHS[ord(character) - 32]
    if unicodedata.combining(character):
        return 0
    return 1000 if unicodedata.east_asian_width(character) in "WF" or character == "…" else 620


def plain(text: str) -> str:
    r"""Text without what does not print: line breaks and the like become escapes.

    >>> print(plain("two\nlines"))
    two\nlines
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def short(text: str, length: int = 24) -> str:
    """Text of at most so many characters; its middle goes.

    >>> short("a name that says more than fits", 13)
    'a name…n fits'
    """
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[: length - 1 - half]}…{text[-half:]}"


def measure(node: Node) -> None:
    """Give a node its size, by its kind and label."""
    wide = text_width(node.label, NAME)
    if node.kind in ("param", "factor"):
        node.width, node.height = max(14.0, wide + 4), 30.0
    else:
        node.width = max(44.0, wide * 1.12 + 20)


def measure_plate(plate: Plate) -> None:
    """Give a plate room for its label."""
    plate.label_width = text_width(plate.label, PLATE) + 6


def svg(picture: Picture, notes: list[str], title: str, description: str, ink: str = "") -> str:
    """The picture as an SVG element.

    Args:
        picture: with everything in its place.
        notes: lines of text below it.
        title, description: what a screen reader says.
        ink: a colour, on white; "auto" for one that follows the reader's light or dark setting;
            nothing for that of the text around.
    """
    below = max([_note_width(note) for note in notes], default=0.0)
    width = max(picture.width, below)
    height = picture.height + (8 + 19 * len(notes) if notes else 0)
    margin = 10 if ink else 1
    w, h = width + 2 * margin, height + 2 * margin
    box = f"{_n(-margin - (width - picture.width) / 2)} {-margin} {_n(w)} {_n(h)}"
    kind = "pplkit-graph pplkit-graph-alone" if ink == "auto" else "pplkit-graph"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}" role="img" '
        f'width="{_n(w)}" height="{_n(h)}" viewBox="{box}" aria-label={quoteattr(title)} '
        f'style="max-width:100%;min-width:{_n(LEAST * w)}px;height:auto;overflow:visible" '
        f'font-family="{FONTS}" font-size="{NAME}" fill="none" '
        f'stroke-linejoin="round"{_colour(ink)}>'
    )
    parts = [
        head,
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(description)}</desc>",
    ]
    if ink == "auto":
        dark = f"@media(prefers-color-scheme:dark){{.pplkit-graph-alone{{color:{LIGHT_INK}}}}}"
        parts.append(f"<style>.pplkit-graph-alone{{color:{INK}}}{dark}</style>")
    elif ink:
        x, y, *_ = box.split()
        parts.append(f'<rect x="{x}" y="{y}" width="{_n(w)}" height="{_n(h)}" fill="#fff"/>')
    parts += [_plate(plate, picture) for plate in picture.plates]
    parts += [_edge(picture.curves[edge]) for edge in picture.edges]
    parts += [_node(node) for node in picture.nodes.values()]
    left = (picture.width - below) / 2
    for i, note in enumerate(notes):
        parts.append(_text(left, picture.height + 8 + 19 * i + 13, note, NOTE, "start"))
    return "\n".join([*parts, "</svg>"])


def _note_width(note: str) -> float:
    """The room of a line: where Helvetica and its like are missing, letters are a fifth wider."""
    return 1.2 * text_width(note, NOTE)


def _colour(ink: str) -> str:
    return f' color="{ink}"' if ink and ink != "auto" else ""


def _n(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")  # no minus zero


def _text(x: float, y: float, text: str, size: float = NAME, anchor: str = "middle") -> str:
    how = f'x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}" fill="currentColor"'
    size = "" if size == NAME else f' font-size="{size}"'
    return f"<text {how}{size}>{escape(text)}</text>"


def _plate(plate: Plate, picture: Picture) -> str:
    x0, y0, x1, y1 = plate.box
    dashes = ' stroke-dasharray="5 3"' if plate.loop else ""
    frame = (
        f'<rect x="{_n(x0)}" y="{_n(y0)}" width="{_n(x1 - x0)}" height="{_n(y1 - y0)}" rx="7" '
        f'stroke="currentColor" stroke-opacity=".75"{dashes}/>'
    )
    at_left = _at_left(plate, picture)
    x, anchor = (x0 + 9, "start") if at_left else (x1 - 9, "end")
    return f"<g>{frame}{_text(x, y1 - 7, plate.label, PLATE, anchor)}</g>"


def _at_left(plate: Plate, picture: Picture) -> bool:
    """Whether a label stands in the left corner: another plate or an arrow has the right one."""
    x0, _, x1, y1 = plate.box
    if any(p is not plate and p.box[2] > x1 > p.box[0] > x0 for p in picture.plates):
        return True
    points = [point for curve in picture.curves.values() for point in _along(curve)]
    low = [(x, y) for x, y in points if y1 - 22 < y < y1]
    wide = plate.label_width + 8
    in_right = any(x1 - wide < x < x1 for x, y in low)
    in_left = any(x0 < x < x0 + wide for x, y in low)
    return in_right and not in_left


def _along(curve: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points on a curve of Bezier segments, close enough together to find what it runs over."""
    points = []
    for i in range(0, len(curve) - 4, 3):
        a, b, c, d = curve[i : i + 4]
        for t in (k / 12 for k in range(13)):
            u = 1 - t
            weights = (u**3, 3 * u * u * t, 3 * u * t * t, t**3)
            at = zip(weights, (a, b, c, d), strict=True)
            x, y = map(sum, zip(*((w * px, w * py) for w, (px, py) in at), strict=True))
            points.append((x, y))
    return points


def _edge(curve: list[tuple[float, float]]) -> str:
    *points, tip = curve
    at = [f"{_n(x)},{_n(y)}" for x, y in points]
    path = f"M{at[0]}C{' '.join(at[1:])}"
    (bx, by), (tx, ty) = points[-1], tip
    dx, dy = tx - bx, ty - by
    sx, sy = -dy * 0.42, dx * 0.42
    corners = [(tx, ty), (bx + sx, by + sy), (bx - sx, by - sy)]
    head = " ".join(f"{_n(x)},{_n(y)}" for x, y in corners)
    return (
        f'<path d="{path}" stroke="currentColor" stroke-width="1.2"/>'
        f'<polygon points="{head}" fill="currentColor"/>'
    )


_SHADE = 'fill="currentColor" fill-opacity=".22"'


def _node(node: Node) -> str:
    x, y, rx, ry = node.x, node.y, node.width / 2, node.height / 2
    name = f"<title>{escape(', '.join(map(plain, node.names)))}: {node.kind}</title>"
    if node.kind == "param":
        dot = f'<circle cx="{_n(x)}" cy="{_n(y + ry - 5)}" r="4" fill="currentColor"/>'
        return f"<g>{name}{dot}{_text(x, y - ry + 12, node.label)}</g>"
    if node.kind == "factor":
        square = (
            f'<rect x="{_n(x - 5)}" y="{_n(y - ry)}" width="10" height="10" fill="currentColor"/>'
        )
        return f"<g>{name}{square}{_text(x, y + ry - 4, node.label)}</g>"
    shape = f'cx="{_n(x)}" cy="{_n(y)}" rx="{_n(rx)}" ry="{_n(ry)}"'
    shade = ""
    if node.kind == "observed":
        shade = f"<ellipse {shape} {_SHADE}/>"
    elif node.kind == "partly observed":
        arc = f"M{_n(x)},{_n(y - ry)}A{_n(rx)},{_n(ry)} 0 0 1 {_n(x)},{_n(y + ry)}Z"
        shade = f'<path d="{arc}" {_SHADE}/>'
    dashes = ' stroke-dasharray="4 3"' if node.kind == "deterministic" else ""
    rim = f'<ellipse {shape} stroke="currentColor" stroke-width="1.4"{dashes}/>'
    return f"<g>{name}{shade}{rim}{_text(x, y + 5, node.label)}</g>"
