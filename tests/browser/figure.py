"""A live figure on a page: move its controls as a person does, read back what it drew."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass

from playwright.sync_api import Locator, Page

LIMIT = 60_000  # milliseconds that a figure is given to follow, on a loaded machine

# Runs on the chart's <svg>. Every drawn path, with its points in the axes' own units: the axes are read from
# their tick labels, so nothing is taken from the chart's specification or the figure's state.
_READ = """
svg => {
  const number = text => Number(text.replace(/\\u2212/g, '-').replace(/[,\\s]/g, ''));
  const at = (node, x, y) => new DOMPoint(x, y).matrixTransform(node.getScreenCTM());
  const scale = (group, which) => {
    const ticks = [...group.querySelectorAll('g.role-axis')]
      .filter(axis => axis.closest('g.role-scope, g.role-frame') === group || !group.matches('g.role-scope'))
      .map(axis => [...axis.querySelectorAll('g.role-axis-label text')].map(text => {
        const m = text.getScreenCTM(); return {value: number(text.textContent), x: m.e, y: m.f}; }))
      .map(labels => labels.filter(label => Number.isFinite(label.value)))
      .filter(labels => labels.length > 1)
      .filter(labels => {
        const [a, b] = [labels[0], labels.at(-1)];
        return which === 'x' ? Math.abs(a.x - b.x) > Math.abs(a.y - b.y) : Math.abs(a.y - b.y) > Math.abs(a.x - b.x);
      });
    if (!ticks.length) return null;
    const labels = ticks[0], a = labels[0], b = labels.at(-1);
    const slope = (b.value - a.value) / (b[which] - a[which]);
    return {of: pixel => a.value + (pixel - a[which]) * slope, unit: Math.abs(slope)};
  };
  const found = [];
  for (const mark of svg.querySelectorAll('g[class*="mark-"]')) {
    const kind = (mark.getAttribute('class').match(/mark-(line|area|symbol|rule|rect|trail)/) ?? [])[1];
    if (!kind || mark.closest('g.role-axis, g.role-legend, [class*="role-axis"], [class*="role-legend"]')) continue;
    let group = mark.closest('g.role-scope');
    while (group && !group.querySelector('g.role-axis')) group = group.parentElement.closest('g.role-scope');
    group ??= svg;
    const x = scale(group, 'x'), y = scale(group, 'y');
    for (const shape of mark.querySelectorAll(':scope > path')) {
      if (!/[MLHVCSQTAZ]/i.test(shape.getAttribute('d') ?? '')) continue;  // nothing drawn
      const style = getComputedStyle(shape);
      const entry = {kind, mark: mark.getAttribute('class'), d: shape.getAttribute('d'), place: shape.getAttribute('transform'),
        stroke: style.stroke, fill: style.fill, dash: style.strokeDasharray,
        label: shape.getAttribute('aria-label') ?? '', points: [],
        units: [x?.unit ?? null, y?.unit ?? null]};
      const add = (px, py) => { const p = at(shape, px, py);
        entry.points.push([x ? x.of(p.x) : p.x, y ? y.of(p.y) : p.y]); };
      if (kind === 'symbol') add(0, 0);
      else if (kind === 'rect') { const b = shape.getBBox();  // a surface has a thousand of them
        for (const [i, j] of [[0, 0], [1, 0], [1, 1], [0, 1]]) add(b.x + i * b.width, b.y + j * b.height); }
      else { const length = shape.getTotalLength(), steps = Math.min(800, Math.max(1, Math.ceil(length)));
        for (let i = 0; i <= steps; i++) { const p = shape.getPointAtLength(length * i / steps); add(p.x, p.y); } }
      found.push(entry);
    }
  }
  return found;
}
"""
# All that is drawn, as it is written there: for asking whether it changed, again and again.
_PATHS = """
svg => [...svg.querySelectorAll('g[class*="mark-"] > *')].map(shape =>
  ['d', 'transform', 'x2', 'y2', 'stroke', 'fill', 'style'].map(name => shape.getAttribute(name) ?? '').join('|'))
"""


@dataclass(frozen=True)
class Shape:
    """One path of the chart. `points` are in the axes' units; `unit` is one screen pixel in those units."""

    kind: str  # line, area, symbol, rule ...
    d: str
    place: str
    stroke: str
    fill: str
    label: str
    points: tuple[tuple[float, float], ...]
    unit: tuple[float, float]

    @property
    def normal(self) -> tuple[float, float]:
        """Mean and standard deviation, if this is a Normal density: from where it is half as high as its peak."""
        heights = [y for _, y in self.points]
        half = (max(heights) + min(heights)) / 2  # its tails lie at zero, wherever the labels stand
        above = [x for x, y in self.points if y >= half]
        return (min(above) + max(above)) / 2, (max(above) - min(above)) / HALF_WIDTH_PER_SCALE


HALF_WIDTH_PER_SCALE = 2 * math.sqrt(2 * math.log(2))


class Figure:
    """The first live figure (`section.pplkit-figure`) inside `place`."""

    def __init__(self, place: Locator):
        self.place = place
        self.root = place.locator("section.pplkit-figure").first
        self.page: Page = place.page

    @classmethod
    def within(cls, place: Locator) -> Figure:
        """The figure inside `place`, once it has drawn."""
        self = cls(place)
        self.wait_ready()
        return self

    def wait_ready(self):
        self.wait_until(lambda: self.root.count() == 1, "there is a figure")
        self.wait_until(
            lambda: self.root.get_attribute("data-state") == "ready", "the figure is ready"
        )
        if not self.drawn:
            self.wait_until(lambda: self.picture() != [], "the figure has drawn something")

    @property
    def drawn(self) -> bool:
        """Whether all that it may show was drawn beforehand: a run replayed, a model's graph."""
        return self.root.evaluate("f => f.classList.contains('pplkit-drawn')")

    @property
    def status(self) -> Locator:
        """Where a change is told: a figure that was drawn beforehand says it only aloud."""
        return self.root.locator(".pplkit-live" if self.drawn else ".pplkit-status")

    def slider(self, name: str) -> Locator:
        """The range input whose accessible name is `name`."""
        return self.root.get_by_role("slider", name=name, exact=True)

    def value(self, name: str) -> float:
        return float(self.slider(name).input_value())

    def share(self, name: str) -> float:
        """How far along its track the slider stands, from 0 to 1."""
        return self.slider(name).evaluate(
            "s => (Number(s.value) - Number(s.min)) / (Number(s.max) - Number(s.min))"
        )

    def drag(self, name: str, to: float):
        """Drag the slider's thumb with the mouse to a share `to` (0 to 1) of its track."""
        slider = self.slider(name)
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        low, high, now = slider.evaluate(
            "s => [Number(s.min || 0), Number(s.max || 100), Number(s.value)]"
        )
        # The thumb's centre travels half a thumb (about 8 px) inside either end of the track.
        track = box["width"] - 16
        middle = box["y"] + box["height"] / 2
        start = box["x"] + 8 + track * (now - low) / (high - low)
        end = box["x"] + 8 + track * to
        mouse = self.page.mouse
        mouse.move(start, middle)
        mouse.down()
        for part in range(1, 9):
            mouse.move(start + (end - start) * part / 8, middle)
        mouse.up()

    def press(self, name: str, *keys: str):
        """Focus the slider and press keys, as somebody without a mouse does."""
        self.slider(name).focus()
        for key in keys:
            self.page.keyboard.press(key)

    def shapes(self) -> list[Shape]:
        """Every path the chart shows now."""
        raw = self.root.locator(".pplkit-chart svg").first.evaluate(_READ)
        return [
            Shape(
                kind=r["kind"],
                d=r["d"],
                place=r["place"],
                stroke=r["stroke"],
                fill=r["fill"],
                label=r["label"],
                points=tuple(map(tuple, r["points"])),
                unit=tuple(u or 1.0 for u in r["units"]),
            )
            for r in raw
        ]

    def picture(self) -> list:
        """All that is drawn, for asking whether it changed."""
        if self.drawn:
            shown = self.root.locator(".pplkit-frame, .pplkit-caption")
            return [(part.inner_html(),) for part in shown.all()]
        return self.root.locator(".pplkit-chart svg").first.evaluate(_PATHS)

    def wait_for_change(self, before, what: str):
        """Wait until the picture is another than `before`, an earlier `picture()`."""
        self.wait_until(lambda: self.picture() != before, what)

    def curve(self, pattern: str) -> Shape:
        """The one line or area whose label (what a screen reader is told) matches `pattern`."""
        drawn = [s for s in self.shapes() if s.kind in ("line", "area")]
        found = [s for s in drawn if re.search(pattern, s.label, re.IGNORECASE)]
        assert len(found) == 1, (
            f"{len(found)} curves match {pattern!r} among {[s.label for s in drawn]}"
        )
        return found[0]

    def points(self) -> list[tuple[float, float]]:
        """Where the chart's point marks are, in the axes' units, in the order of the data."""
        return [s.points[0] for s in self.shapes() if s.kind == "symbol"]

    def wait_until(self, condition, what: str):
        """Wait until `condition()` holds, looking again a few times a second."""
        deadline = time.monotonic() + LIMIT / 1000
        while not condition():
            if time.monotonic() > deadline:
                said = self.status.all_inner_texts() or self.place.inner_text()[-300:]
                raise AssertionError(f"waited in vain until {what}; there is said: {said}")
            self.page.wait_for_timeout(150)
