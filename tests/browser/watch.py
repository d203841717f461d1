"""What a page complains of: console errors, exceptions, failed and refused requests."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from playwright.sync_api import Error as PlaywrightError

# Refused by the driver: any address but this machine's own. `data:` and `blob:` never leave the page.
ELSEWHERE = re.compile(
    r"^(https?|wss?|ftp)://(?!(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/|\?|#|$))", re.IGNORECASE
)

# And by the browser itself, for what the driver does not see (workers, prefetches, sockets).
NO_OTHER_HOST = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"


@dataclass(frozen=True)
class Complaint:
    """One thing a page complained of: what kind, on which page, in which words."""

    kind: str  # "console" | "exception" | "refused" | "failed" | "status"
    page: str
    text: str

    def __str__(self):
        return f"{self.kind}: {self.text}  [on {self.page}]"


@dataclass(eq=False)
class Watch:
    """Collects the complaints of every page of a browser context, in the order they came.

    `expect(pattern)` names a complaint that a test provokes on purpose; every other one fails the test
    during which it came, when that test ends.
    """

    complaints: list[Complaint] = field(default_factory=list)
    expected: list[re.Pattern] = field(default_factory=list)
    _told: int = 0

    def attach(self, context):
        """Watch `context` and refuse its every request to another machine."""
        context.route(ELSEWHERE, self._refuse)
        context.route_web_socket(ELSEWHERE, self._refuse_socket)
        context.on("console", self._console)
        context.on("weberror", self._exception)
        context.on("requestfailed", self._failed)
        context.on("response", self._response)
        return self

    def expect(self, pattern: str):
        """Let complaints pass whose text matches `pattern`, from now on."""
        told = self.unexpected()[: self._told]
        self.expected.append(re.compile(pattern))
        self._told = sum(not self.expected[-1].search(str(c)) for c in told)

    def unexpected(self) -> list[Complaint]:
        """Every complaint that no test said it provokes."""
        return [c for c in self.complaints if not any(p.search(str(c)) for p in self.expected)]

    def news(self) -> list[Complaint]:
        """What is unexpected and was not yet handed out by this method."""
        news = self.unexpected()[self._told :]
        self._told += len(news)
        return news

    def _add(self, kind, page, text):
        self.complaints.append(Complaint(kind, page, text))

    def _refuse(self, route):
        self._add("refused", _page_of(route.request), route.request.url)
        route.abort("addressunreachable")

    def _refuse_socket(self, socket):
        self._add("refused", "a web socket", socket.url)
        socket.close()

    def _console(self, message):
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            where = message.location
            self._add("console", where.get("url", "?"), message.text)

    def _exception(self, error):
        self._add("exception", error.page.url if error.page else "?", str(error.error))

    def _failed(self, request):
        # A page that is left cancels what it was still loading: no fault of the page.
        if request.failure != "net::ERR_ABORTED" and not ELSEWHERE.match(request.url):
            self._add("failed", _page_of(request), f"{request.url} ({request.failure})")

    def _response(self, response):
        if response.status >= 400:
            self._add("status", _page_of(response.request), f"{response.status} {response.url}")


def _page_of(request):
    try:
        return request.frame.url
    except PlaywrightError:  # a worker's request, or one of a page already gone, has no frame
        return "?"
