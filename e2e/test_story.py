"""The story of an operator's first day. Each test goes on where the one before ended: run them in order, with -x."""

from collections.abc import Mapping, Sequence

import pytest
from playwright.sync_api import expect

from e2e.platform import BROKEN, LOST, NEW, SWEEP, Platform
from e2e.screen import PATIENCE_S, Screen

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
    screen.sees(*kinds)
    screen.page.get_by_role("tab", name="Checks").or_(screen.named("Checks")).first.click()
    screen.sees(f"Checks ({checks})" if checks else "No checks")


def test_the_manifest_is_read_with_a_click_and_its_checks_pass(screen: Screen) -> None:
    screen.choose_assets("source_manifest")
    screen.press("Materialize selected")
    screen.sees("Launched run")
    screen.sees_in_time("/assets/source_manifest", "clips with MOS")
    screen.sees_in_time("/assets/source_manifest?view=checks", "Checks (7)", "Succeeded")
    expect(screen.page.get_by_text("Succeeded").filter(visible=True)).to_have_count(7, timeout=PATIENCE_S * 1000)


def test_a_broken_clip_is_set_aside_with_its_reason_and_a_lost_one_is_red(screen: Screen, running: Platform) -> None:
    running.lose(LOST)
    screen.open("/assets/decoded_reference")
    screen.press("Materialize…")
    screen.launch_backfill([CHOSEN])
    partitions = "/assets/decoded_reference?view=partitions"
    screen.sees_in_time(partitions, "Failed (1)", "Materialized (3)", "Missing (1)")
    screen.click(BROKEN)
    screen.sees("quarantine reason", REASON)
    screen.click(LOST)
    screen.sees("failed, and did not materialize this asset")


def test_what_failed_is_launched_again_with_two_clicks(screen: Screen, running: Platform) -> None:
    running.find_again(LOST)
    screen.open("/assets/decoded_reference")
    screen.press("Materialize…")
    screen.click("Failed")
    screen.launch_backfill([])
    screen.sees_in_time("/assets/decoded_reference?view=partitions", "Failed (0)", "Materialized (4)", "Missing (1)")


def test_cells_of_some_clips_turn_green_while_one_watches(screen: Screen) -> None:
    screen.choose_assets("distortion", "feature_rows")
    screen.press("Materialize selected (2)")
    screen.launch_backfill([CHOSEN, ()])
    screen.open("/runs?tab=backfills")
    screen.sees(f"{len(CHOSEN) * len(SWEEP)} partitions", "Success")
    for asset in ("distortion", "feature_rows"):
        green, missing = len(CHOSEN) * len(SWEEP), len(SWEEP)
        path = f"/assets/{asset}?view=partitions"
        screen.sees_in_time(path, "Failed (0)", f"Materialized ({green})", f"Missing ({missing})")
    screen.click(BROKEN)
    screen.click(str(SWEEP[0]))
    screen.sees("quarantine reason", REASON)
    screen.click("bars")
    screen.click(str(SWEEP[0]))
    screen.sees("VMAF (0 to 100)", "bitrate (kbit/s)")


def test_the_corpus_is_published_with_a_click_and_its_checks_pass(screen: Screen) -> None:
    screen.open("/jobs")
    screen.click("publish_corpus")
    screen.press("Materialize all")
    screen.sees("Launched run")
    screen.sees_in_time("/assets/corpus_report", "clips in quarantine")
    screen.open("/assets/fr_corpus?view=checks")
    screen.sees("Checks (8)")
    # zoom is in the manifest, and not measured yet.
    expect(screen.page.get_by_text("Succeeded").filter(visible=True)).to_have_count(7, timeout=PATIENCE_S * 1000)
    screen.click("sweeps_complete")
    screen.sees("zoom")


def test_the_report_shows_its_pictures(screen: Screen) -> None:
    screen.open("/assets/corpus_report")
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


def test_a_clip_that_is_added_to_the_manifest_comes_into_the_corpus_without_a_click(
    screen: Screen, running: Platform
) -> None:
    screen.open("/automation")
    screen.click("Select all")
    screen.press("Actions")
    screen.page.get_by_role("menuitem", name="Start 7 automations").click()
    screen.page.get_by_role("dialog").get_by_role("button", name="Start 7 automations").click()
    screen.sees("Successfully started 7 automations.")
    running.list_clip(NEW, 3.9)
    clips = (*GOOD, LOST, "zoom", NEW)
    screen.reads_in_time("/assets/fr_corpus", rf"Row count\s+{len(clips) * len(SWEEP)}\b")
    screen.reads_in_time("/assets/corpus_report", rf"\nclips\s[^\n]*\s+[^\n]*\s+{len(clips)}\n")
    screen.page.get_by_text("[Show Markdown]").first.click()
    for clip in clips:
        expect(screen.page.get_by_role("dialog").get_by_role("cell", name=clip, exact=True)).to_be_visible()
