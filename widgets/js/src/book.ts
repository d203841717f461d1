// Loaded by pages of a book that have figures: makes each live when it comes near, and leaves it the
// picture that it is where that cannot be.
import type { mount } from "./page";
import type { Published } from "./published";

const NEAR = "600px 0px"; // beyond the edge of what is seen
const ASSETS = new URL("./", import.meta.url).href;
const BLOCKED =
  "This browser blocks what would compute here (WebAssembly or workers), so the figure stays a picture.";

function able(): boolean {
  try {
    // Eight bytes are the least module; a page's policy may forbid even that.
    void new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0));
    return typeof Worker === "function";
  } catch {
    return false;
  }
}

/** Say in the picture's last line why it does not move. */
function say(place: HTMLElement, words: string): void {
  const note = place.querySelector<HTMLElement>(".pplkit-still-note");
  if (!note) return;
  note.setAttribute("role", "status");
  note.textContent = words;
}

async function enliven(place: HTMLElement): Promise<void> {
  const file = new URL(place.dataset["figure"]!, document.baseURI).href;
  try {
    const reply = await fetch(file);
    if (!reply.ok) throw new Error(`${reply.status}`);
    const published = (await reply.json()) as Published;
    if (!published.grid && !published.kind && !able()) return say(place, BLOCKED);
    const page = (await import(new URL("./page.js", ASSETS).href)) as { mount: typeof mount };
    const host = document.createElement("div");
    host.className = "pplkit-host";
    host.style.cssText = "position:absolute;inset:0 0 auto 0;visibility:hidden;height:0;overflow:hidden";
    place.style.position = "relative";
    place.append(host);
    const end = page.mount(host, published, file, place.dataset["key"]!, ASSETS, () => {
      end();
      host.remove();
      place.classList.remove("pplkit-is-live");
      say(place, BLOCKED);
    });
    await drawn(host);
    host.style.cssText = place.style.cssText = "";
    place.classList.add("pplkit-is-live");
  } catch (fault) {
    const why = fault instanceof Error ? fault.message : String(fault);
    say(place, `This figure cannot be made live here (${why}), so it stays a picture.`);
  }
}

/** Until the figure in `host` has something to show. */
function drawn(host: HTMLElement): Promise<void> {
  return new Promise((done) => {
    const look = () => {
      if (host.querySelector(".pplkit-figure:not([data-state=loading])") || !host.isConnected) {
        seen.disconnect();
        done();
      }
    };
    const seen = new MutationObserver(look);
    seen.observe(host, { subtree: true, attributes: true, childList: true });
    look();
  });
}

const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      void enliven(target as HTMLElement);
    }
  },
  { rootMargin: NEAR },
);
for (const place of document.querySelectorAll<HTMLElement>(".pplkit-page[data-figure]")) {
  const asked = [...new URLSearchParams(location.search).keys()];
  if (asked.some((name) => name.startsWith(`${place.dataset["key"]}.`))) void enliven(place);
  else near.observe(place);
}
