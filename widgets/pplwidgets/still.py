"""What a figure is where nothing can move: a picture, what it shows in words, and a sentence."""

from __future__ import annotations

import hashlib
import html
import json
import re
from functools import cache
from pathlib import Path

from .charts import with_values
from .tables import Tables

STATIC = Path(__file__).parent / "static"
_WIDTH = 640
_BESIDE = 72  # as in chart.ts: what the axes of stacked panels take


def asset(name: str) -> bytes:
    """A file of the JavaScript build; `FileNotFoundError` with a remedy when there was none."""
    path = STATIC / name
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"The widgets' JavaScript is not built: {path} is missing. In a clone run `make setup`;"
            " otherwise install the distribution again."
        ) from None


@cache
def chart_config() -> dict:
    """The theme that pages and pictures share, for a picture."""
    theme = json.loads(asset("theme.json").decode("utf-8"))
    palette = theme["palettes"]["light"]

    def settle(part):
        if isinstance(part, dict):
            return {key: settle(value) for key, value in part.items()}
        if part == "@palette":
            return palette
        return palette[0] if part == "@first" else part

    return settle(theme["config"])


def picture(spec: dict, tables: Tables) -> str:
    """The chart as SVG text, in the colour of the text around it."""
    import vl_convert

    spec = with_values(spec, tables)
    composed = {"hconcat", "vconcat", "concat", "facet", "repeat"} & spec.keys()
    if not composed and not {"row", "column", "facet"} & spec.get("encoding", {}).keys():
        spec = {"width": _WIDTH, "autosize": {"type": "fit-x", "contains": "padding"}, **spec}
    if "vconcat" in spec and not any("width" in panel for panel in spec["vconcat"]):
        panels = [{**panel, "width": _WIDTH - _BESIDE} for panel in spec["vconcat"]]
        spec = {**spec, "vconcat": panels}
    drawn = vl_convert.vegalite_to_svg(spec, config=chart_config(), allowed_base_urls=[])
    # Numbers of a fifteenth digit are of no use on a screen; an axis without data has no values.
    drawn = re.sub(r"(\.\d\d)\d+", r"\1", drawn)
    return _own_names(drawn.replace(" with values from NaN to NaN", ""))


def _own_names(svg: str) -> str:
    """Names of clips and gradients count for a whole page, where each picture has a first one."""
    mark = hashlib.sha256(svg.encode()).hexdigest()[:8]
    return re.sub(r"""(\sid=["']|url\(["']?#)""", rf"\1still-{mark}-", svg)


def still(svg: str, alt: str, title: str, caption: str, sentence: str) -> str:
    """The picture with its words, as one HTML figure."""
    size = re.match(r"<svg[^>]*?\bwidth=\"([\d.]+)\"[^>]*?\bheight=\"([\d.]+)\"", svg)
    head = f'<svg role="img" aria-label="{html.escape(alt)}"'
    svg = re.sub(r"<svg", head, svg, count=1)
    if size:
        svg = re.sub(r' (width|height)="[\d.]+"', "", svg, count=2)
        svg = svg.replace(
            head, f'{head} style="width:100%;max-width:{float(size[1]):.0f}px;height:auto"', 1
        )
    svg = re.sub(r"(<svg[^>]*>)", rf"\1<title>{html.escape(alt)}</title>", svg, count=1)
    words = [f"<strong>{html.escape(title)}</strong>" if title else "", html.escape(caption)]
    words = " ".join(word for word in words if word)
    # Themes colour captions for their own ground; here picture and words share the ground they are
    # given.
    plain = 'style="margin:0.4em 0;color:inherit;text-align:left"'
    return (
        '<figure class="pplkit-still" style="margin:1em 0">'
        + svg
        + '<figcaption style="color:inherit;text-align:left;font-size:0.95em">'
        + (f"<p {plain}>{words}</p>" if words else "")
        + f'<p class="pplkit-still-note" {plain}><em>{html.escape(sentence)}</em></p>'
        + "</figcaption></figure>"
    )
