"""The story of an operator's first day. Each test goes on where the one before ended: run them in order, with -x."""

from collections.abc import Mapping, Sequence

import pytest
from playwright.sync_api import expect

from e2e.platform import BROKEN, LOST, NEW, SWEEP, Platform
from e2e.screen import PATIENCE_S, Screen
from frnr_assets.definitions import build_definitions
from frnr_assets.settings import load_settings

# Which kinds and how many checks each asset shows.
ASSETS: Mapping[str, tuple[Sequence[str], int]] = {
    "source_manifest": (("Polars", "Parquet"), 7),
    "decoded_reference": (("ffmpeg", "Parquet"), 2),
    "distortion": (("ffmpeg",), 0),
    "feature_rows": (("vmaf", "Parquet"), 4),
    "fr_corpus": (("Polars", "Parquet"), 8),
    "corpus_report": (("matplotlib", "html"), 0),
}
GOOD = ("bars", "life")
CHOSEN = ("bars", BROKEN, "life", LOST)
REASON = "moov atom not found"


@pytest.mark.parametrize("asset", ASSETS)
def test_an_asset_says_what_it_is_and_what_its_numbers_are_not(screen: Screen, asset: str) -> None:
    screen.choose_assets(asset)
    screen.sees("The reference of every row is a re-decoded upload, not a master.")
    screen.click("View in Asset Catalog")
    kinds, checks = ASSETS[asset]
    screen.sees_exactly(*kinds)
    screen.open_tab("Checks")
    screen.sees(f"Checks ({checks})" if checks else "No checks")


def test_the_manifest_is_read_with_a_click_and_its_checks_pass(screen: Screen) -> None:
    screen.choose_assets("source_manifest")
    screen.press("Materialize selected")
    screen.sees("Launched run")
    screen.open_asset("source_manifest")
    screen.sees_in_time("clips with MOS")
    screen.open_tab("Checks")
    screen.sees_in_time("Checks (7)", "Succeeded")
    screen.sees_times("Succeeded", 7)


def test_a_broken_clip_is_set_aside_with_its_reason_and_a_lost_one_is_red(screen: Screen, running: Platform) -> None:
    running.lose(LOST)
    screen.open_asset("decoded_reference")
    screen.press("Materialize…")
    screen.launch([CHOSEN])
    screen.reads(r"Status\s+Failed\s", rf"decoded_reference\s+100% completed\s+{len(CHOSEN)}\s+0\s+3\s+1\b")
    screen.open_asset("decoded_reference", "Partitions")
    screen.sees_in_time("Failed (1)", "Materialized (3)", "Missing (1)")
    screen.click(BROKEN)
    screen.sees("quarantine reason", REASON)
    screen.click(LOST)
    screen.sees("failed, and did not materialize this asset")


def test_what_failed_is_launched_again_with_two_clicks(screen: Screen, running: Platform) -> None:
    running.find_again(LOST)
    screen.open_asset("decoded_reference", "Partitions")
    screen.press("Materialize…")
    screen.click("Failed")
    screen.launch([])
    screen.go_to("Runs")
    screen.sees_exactly("dataset: e2e")
    screen.open_asset("decoded_reference", "Partitions")
    screen.sees_in_time("Failed (0)", "Materialized (4)", "Missing (1)")


def test_cells_of_some_clips_turn_green_while_one_watches(screen: Screen) -> None:
    screen.choose_assets("distortion", "feature_rows")
    screen.press("Materialize selected (2)")
    screen.launch([CHOSEN, ()])
    green, missing = len(CHOSEN) * len(SWEEP), len(SWEEP)
    # The page of the backfill counts by itself.
    screen.reads(
        *(rf"{asset}\s+100% completed\s+{green}\s+0\s+{green}\s+0\b" for asset in ("distortion", "feature_rows")),
        r"Status\s+Succeeded\s",
    )
    for asset in ("distortion", "feature_rows"):
        screen.open_asset(asset, "Partitions")
        screen.sees_in_time("Failed (0)", f"Materialized ({green})", f"Missing ({missing})")
    screen.click(BROKEN)
    screen.click(str(SWEEP[0]))
    screen.sees("quarantine reason", REASON)
    screen.click("bars")
    screen.click(str(SWEEP[0]))
    screen.sees("VMAF (0 to 100)", "bitrate (kbit/s)")


def test_the_corpus_is_published_with_a_click_and_its_checks_pass(screen: Screen) -> None:
    screen.go_to("Jobs")
    screen.click("publish_corpus")
    screen.press("Materialize all")
    screen.sees("Launched run")
    screen.open_asset("corpus_report")
    screen.sees_in_time("clips in quarantine")
    screen.open_asset("fr_corpus", "Checks")
    screen.sees("Checks (8)")
    # zoom is in the manifest, and not measured yet.
    screen.sees_times("Succeeded", 7)
    screen.click("sweeps_complete")
    screen.sees("zoom")


def test_the_report_shows_its_pictures(screen: Screen) -> None:
    screen.open_asset("corpus_report")
    shown = screen.page.get_by_text("[Show Markdown]").filter(visible=True)
    expect(shown.first).to_be_visible(timeout=PATIENCE_S * 1000)
    assert shown.count() >= 4
    for index in range(shown.count()):
        shown.nth(index).click()
        screen.sees_pictures("[role=dialog] img")
        screen.press("Close")
        expect(screen.page.get_by_role("dialog")).to_have_count(0)
    path = screen.page.get_by_text("report.html").filter(visible=True).first.inner_text()
    screen.page.goto(f"file://{path}")
    screen.sees("Corpus report", "Caveat.")
    screen.sees_pictures("img")
    screen.page.go_back()


def test_a_clip_that_is_added_to_the_manifest_comes_into_the_corpus_without_a_click(
    screen: Screen, running: Platform
) -> None:
    screen.go_to("Automation")
    screen.click("Select all")
    screen.press("Actions")
    definitions = build_definitions(load_settings(running.folder))
    switches = len([*(definitions.sensors or ()), *(definitions.schedules or ())])
    start = f"Start {switches} automations"
    screen.page.get_by_role("menuitem", name=start).click()
    screen.page.get_by_role("dialog").get_by_role("button", name=start).click()
    screen.sees(f"Successfully started {switches} automations.")
    screen.press("Done")
    running.list_clip(NEW, 3.9)
    clips = (*GOOD, LOST, "zoom", NEW)
    screen.open_asset("fr_corpus")
    screen.reads_in_time(rf"Row count\s+{len(clips) * len(SWEEP)}\b")
    screen.open_asset("corpus_report")
    screen.reads_in_time(rf"\nclips\s[^\n]*\s+[^\n]*\s+{len(clips)}\n")
    screen.page.get_by_text("[Show Markdown]").first.click()
    for clip in clips:
        expect(screen.page.get_by_role("dialog").get_by_role("cell", name=clip, exact=True)).to_be_visible()
