// Light or dark, as the page around the figure is, and as it changes.
import theme from "./theme.json";

export type Mode = "light" | "dark";

type Config = Record<string, unknown>;

/**
 * What the page says of itself: JupyterLab, Sphinx themes, editors; else the paper the figure
 * stands on.
 */
export function mode(el: HTMLElement): Mode {
  const lab = document.body.dataset.jpThemeLight;
  if (lab !== undefined) return lab === "false" ? "dark" : "light";
  const said = document.documentElement.dataset.theme;
  if (said === "dark" || said === "light") return said;
  for (let at: HTMLElement | null = el; at; at = at.parentElement) {
    const [r, g, b, a] = (getComputedStyle(at).backgroundColor.match(/[\d.]+/g) ?? []).map(Number);
    if (r === undefined || g === undefined || b === undefined || a === 0) continue;
    return 0.299 * r + 0.587 * g + 0.114 * b < 128 ? "dark" : "light";
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** Call `follow` whenever the page's theme may have changed; returns how to stop. */
export function watchMode(follow: () => void): () => void {
  const seen = new MutationObserver(follow);
  const what = {
    attributes: true,
    attributeFilter: ["class", "style", "data-theme", "data-mode", "data-jp-theme-light"],
  };
  seen.observe(document.documentElement, what);
  seen.observe(document.body, what);
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", follow);
  return () => {
    seen.disconnect();
    system.removeEventListener("change", follow);
  };
}

/** The chart theme with this mode's colours in it. */
export function chartConfig(now: Mode): Config {
  const palette = theme.palettes[now];
  const settle = (part: unknown): unknown => {
    if (Array.isArray(part)) return part.map(settle);
    if (part && typeof part === "object") {
      return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, settle(value)]));
    }
    if (part === "@palette") return palette;
    return part === "@first" ? palette[0] : part;
  };
  return settle(theme.config) as Config;
}
