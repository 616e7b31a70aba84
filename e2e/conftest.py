"""One platform and one browser for the whole story; of a failure, the screen and what Dagster said are kept."""

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from e2e.platform import Platform, platform
from e2e.screen import Screen, browser_on, chromium

FAILURES = Path(__file__).parents[1] / "e2e-failures"


@pytest.fixture(scope="session")
def executable() -> str:
    found = chromium()
    if found is None:
        pytest.skip("there is no browser: install the Debian package chromium")
    return found


@pytest.fixture(scope="session")
def running(
    executable: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Platform]:
    del executable  # without a browser, nothing need run
    with platform(tmp_path_factory.mktemp("e2e") / "site") as started:
        yield started
        if request.session.testsfailed:
            FAILURES.mkdir(exist_ok=True)
            shutil.copy(started.dev.log, FAILURES / "dagster.log")


@pytest.fixture(scope="session")
def screen(executable: str, running: Platform) -> Iterator[Screen]:
    with browser_on(running.dev, executable) as shown:
        shown.wait_for_platform()
        yield shown


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    shown = getattr(item, "funcargs", {}).get("screen")
    if report.failed and report.when == "call" and shown is not None:
        FAILURES.mkdir(exist_ok=True)
        shown.save(FAILURES / f"{item.name}.png")
        (FAILURES / f"{item.name}.txt").write_text(f"{shown.page.url}\n\n{shown.text()}\n")
        report.sections.append(("what the screen showed", f"{FAILURES / item.name}.png, .txt"))
    return report
