"""Random events on a figure's controls, and what they leave behind."""

from __future__ import annotations

import re

from .figure import Figure

# Ends and middles of sliders, numbers of every size, what is no number, choices, buttons.
_EVENTS = """async ([root, many, seed]) => {
  let state = seed;
  const random = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
  const pick = (list) => list[Math.floor(random() * list.length)];
  const seen = (list) => [...list].filter((each) => !each.closest("[hidden]"));
  for (let i = 0; i < many; i++) {
    const buttons = seen(root.querySelectorAll(".pplkit-button"));
    if (random() < 0.05 && buttons.length) { pick(buttons).click(); continue; }
    const c = pick(seen(root.querySelectorAll(".pplkit-control :is(input, select)")));
    if (!c) return;
    if (c.type === "checkbox") c.click();
    else if (c.tagName === "SELECT") {
      c.selectedIndex = Math.floor(random() * c.options.length);
      c.dispatchEvent(new Event("input", {bubbles: true}));
    } else if (c.type === "range") {
      const [low, high] = [Number(c.min), Number(c.max)];
      c.value = pick([c.min, c.max, String(low + random() * (high - low)), "NaN", ""]);
      c.dispatchEvent(new Event("input", {bubbles: true}));
    } else {
      c.value = pick(["", "NaN", "1e308", "-1e308", "0", "-0", String(random() * 10), "x"]);
      c.dispatchEvent(new Event("change", {bubbles: true}));
    }
    if (i % 50 === 0) await new Promise((done) => setTimeout(done, 5));
  }
}"""
# Into a page before its scripts: how many questions its workers have been asked and not answered.
COUNTED = """
const asked = (globalThis.asked = {now: 0, most: 0});
globalThis.Worker = class extends Worker {
  constructor(...given) { super(...given); this.addEventListener("message", () => asked.now--); }
  postMessage(...given) { asked.most = Math.max(asked.most, ++asked.now); super.postMessage(...given); }
};"""
# Bytes by which a page's heap may have grown: compiled code, shapes of objects.
GROWTH = 2e6
_WRONG = re.compile(r"NaN|Infinity|undefined")


def send(figure: Figure, many: int, seed: int = 7) -> None:
    """`many` random events on all controls and buttons that a reader would see."""
    figure.page.evaluate(_EVENTS, [figure.root.element_handle(), many, seed])


def misdrawn(figure: Figure) -> list[str]:
    """What is drawn or written in the figure that nobody should see."""
    frame = ".pplkit-frame" if figure.drawn else ".pplkit-chart"
    drawn = figure.root.locator(frame).inner_html()
    found = [drawn[max(0, at.start() - 60) : at.end() + 20] for at in _WRONG.finditer(drawn)]
    said = figure.root.locator(".pplkit-caption").inner_text()
    return found + ([said] if _WRONG.search(said) else [])


def heap(page) -> float:
    """Bytes of the page's own objects, after collections: one alone may leave what was in use."""
    session = page.context.new_cdp_session(page)
    sizes = []
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
        sizes.append(session.send("Runtime.getHeapUsage")["usedSize"])
        page.wait_for_timeout(200)
    session.detach()
    return min(sizes)
