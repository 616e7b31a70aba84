"""What a person does with Dagster's UI, and reads in it."""

import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Error, Locator, Page, expect, sync_playwright

from frnr_assets_tests.assets.dagster_dev import DagsterDev

# Generous, for machines that do something else meanwhile; nothing waits longer than until what it waits for is there.
PATIENCE_S = 480.0
LOOK_AGAIN_S = 1.0
WIDTH, HEIGHT = 1280, 800
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Screen:
    """A browser's page on the platform."""

    page: Page
    dev: DagsterDev

    def wait_for_platform(self) -> None:
        """Reload the page of the graph until webserver and code location are up."""

        def up() -> bool:
            try:
                self.page.goto(f"{self.dev.address}/asset-groups")
            except Error:
                return False
            return self.shows("source_manifest")

        self.until(up, "the asset graph")

    def go_to(self, name: str) -> None:
        """Click a page in the navigation on the left."""
        self.page.get_by_role("link").filter(has=self.page.get_by_text(name, exact=True)).first.click()

    def open_asset(self, name: str, tab: str = "Overview") -> None:
        """Click an asset in the catalog, and a tab of its page."""
        self.go_to("Catalog")
        self.page.get_by_role("link", name=name).filter(visible=True).first.click()
        self.open_tab(tab)

    def open_tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=re.compile(f"^{name}")).first.click()

    def reload(self) -> None:
        self.page.reload()

    def resize(self, width: int, height: int) -> None:
        """Make the window of another size, in pixels."""
        self.page.set_viewport_size({"width": width, "height": height})

    def save(self, path: Path) -> None:
        """Write what is to be seen as a PNG file."""
        self.page.screenshot(path=path)

    def text(self) -> str:
        found: str = self.page.locator("body").inner_text()
        return found

    def named(self, text: str) -> Locator:
        """Return what is to be seen and reads exactly so."""
        return self.page.get_by_text(text, exact=True).filter(visible=True).first

    def shows(self, text: str, patience_s: float = 5.0) -> bool:
        """Tell whether a text, which may be within another, is to be seen before long."""
        shown = self.page.get_by_text(text).filter(visible=True).first
        try:
            shown.wait_for(timeout=patience_s * 1000)
        except Error:
            return False
        return True

    def sees(self, *texts: str | re.Pattern[str]) -> None:
        for text in texts:
            shown = self.page.get_by_text(text).filter(visible=True).first
            expect(shown, f"{text!r} on the screen").to_be_visible(timeout=PATIENCE_S * 1000)

    def sees_exactly(self, *texts: str) -> None:
        """Look for what reads so and no more: a word of a sentence is not meant."""
        for text in texts:
            expect(self.named(text), f"{text!r} on the screen").to_be_visible(timeout=PATIENCE_S * 1000)

    def sees_times(self, text: str, times: int) -> None:
        shown = self.page.get_by_text(text, exact=True).filter(visible=True)
        expect(shown).to_have_count(times, timeout=PATIENCE_S * 1000)

    def sees_in_time(self, *texts: str) -> None:
        """Reload this page again and again, until it shows all of some texts."""

        def there() -> bool:
            self.reload()
            return all(self.shows(text) for text in texts)

        self.until(there, f"{texts} on {self.page.url}")

    def reads(self, *patterns: str, patience_s: float = PATIENCE_S) -> None:
        """Look for patterns in the text of this page, across its lines."""
        for pattern in patterns:
            body = self.page.locator("body")
            expect(body).to_contain_text(re.compile(pattern), use_inner_text=True, timeout=patience_s * 1000)

    def reads_in_time(self, pattern: str) -> None:
        """Reload this page again and again, until its text has a pattern in it."""

        def there() -> bool:
            self.reload()
            try:
                self.reads(pattern, patience_s=10.0)
            except AssertionError:
                return False
            return True

        self.until(there, f"{pattern} on {self.page.url}")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            self.dev.assert_running()
            assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
            self.page.wait_for_timeout(LOOK_AGAIN_S * 1000)

    def click(self, text: str) -> None:
        self.named(text).click()

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button).filter(visible=True).first.click()

    def sees_pictures(self, selector: str) -> None:
        """Assert that there are pictures, and that each is drawn."""
        expect(self.page.locator(selector).first).to_be_visible(timeout=PATIENCE_S * 1000)
        widths = self.page.locator(selector).evaluate_all("pictures => pictures.map(picture => picture.naturalWidth)")
        assert widths
        assert all(width > 0 for width in widths), widths

    def choose_assets(self, *names: str) -> None:
        """Select assets in the list beside the graph."""
        self.go_to("Lineage")
        for index, name in enumerate(names):
            entry = self.page.get_by_role("button", name=name).filter(visible=True).first
            entry.click(modifiers=["Shift"] if index else [])

    def launch(self, picks: Sequence[Sequence[str]]) -> None:
        """Answer the dialog that asks for partitions, launch, and open the page of what was launched.

        Args:
            picks: each dimension's keys, or none for all of them.
        """
        dialog = self.page.get_by_role("dialog")
        selectors = dialog.get_by_text("Select a partition or create one")
        for dimension, keys in enumerate(picks):
            if keys:
                selectors.first.click()
                for key in keys:
                    self.page.get_by_role("menuitem").filter(has=self.page.get_by_text(key, exact=True)).click()
                dialog.get_by_text("Launch runs to materialize").click()
            else:
                dialog.get_by_role("button", name="All", exact=True).nth(dimension).click()
        # One partition is a run, several are a backfill.
        dialog.get_by_role("button", name=re.compile("^Launch (backfill|1 run)$")).click()
        self.sees(re.compile("Created backfill|Launched run"))
        self.click("View")


def chromium() -> str | None:
    """Return the path of Debian's Chromium, if it is installed."""
    return shutil.which("chromium")


@contextmanager
def browser_on(dev: DagsterDev, executable: str) -> Iterator[Screen]:
    """Start a browser with a profile of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=QUIET)
        try:
            yield Screen(browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}), dev)
        finally:
            browser.close()
