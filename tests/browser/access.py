"""What an automatic audit of accessibility finds on a part of a page."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe


def serious_violations(page, selector: str) -> list[str]:
    """What axe calls serious or critical within `selector`, one line each. Nothing to audit is an error."""
    assert page.locator(selector).count(), f"nothing on the page matches {selector}"
    # Without `preload`, which would fetch style sheets once more, by addresses of its own making.
    options = {"resultTypes": ["violations"], "preload": False}
    results = Axe().run(page, context=selector, options=options)
    return [
        f"{violation['id']}: {violation['help']}: {node['html'][:160]}"
        for violation in results.response["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
