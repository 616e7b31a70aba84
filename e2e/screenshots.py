"""The pictures of the README, taken from the UI on the demo."""

import sys
import tempfile
from pathlib import Path

from e2e.screen import Screen, browser_on, chromium
from frnr_assets.demo import INSTANCE_FOLDER, run_demo
from frnr_assets.settings import load_settings
from frnr_assets_tests.assets.dagster_dev import CHECKOUT, DagsterDev

IMAGES = CHECKOUT / "docs" / "images"
# Wide enough for the whole graph to be legible, and high enough for the first picture of the report, in pixels.
GRAPH_SIZE, REPORT_SIZE = (1920, 560), (800, 1160)


def main() -> int:
    """Run the demo in a temporary folder, open the UI on it, and write both pictures."""
    executable = chromium()
    if executable is None:
        print("There is no browser: install the Debian package chromium, and try again.", file=sys.stderr)
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run_demo(folder, CHECKOUT / "dagster.yaml")
        dev = DagsterDev(folder, folder / INSTANCE_FOLDER)
        try:
            with browser_on(dev, executable) as screen:
                screen.wait_for_platform()
                take_graph(screen, IMAGES / "asset_graph.png")
                take_report(screen, load_settings(folder).data_root, IMAGES / "report.png")
        finally:
            dev.stop()
    return 0


def take_graph(screen: Screen, path: Path) -> None:
    screen.resize(*GRAPH_SIZE)
    screen.click("Hide navigation")
    # It is laid out for the room that there is now.
    screen.reload()
    screen.sees("8 / 8 Passed")
    screen.sees_times("Loading...", 0)
    screen.page.wait_for_load_state("networkidle")
    screen.save(path)


def take_report(screen: Screen, data_root: Path, path: Path) -> None:
    screen.resize(*REPORT_SIZE)
    screen.page.goto((data_root / "corpus" / "report.html").as_uri())
    screen.sees_pictures("img")
    screen.save(path)


if __name__ == "__main__":
    sys.exit(main())
