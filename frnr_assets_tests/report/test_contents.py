"""What the report says of a corpus, also of one that has next to nothing to show."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from bench.fabricate import fabricated_rows
from frnr_assets.corpus.schema import FEATURE_MEANS
from frnr_assets.report.contents import report_of
from frnr_assets.report.parts import Report, Section
from frnr_assets_tests.corpus.rows import SWEEP, feature_row, reference_row, references_frame, stored_frame, sweep_rows

NOBODY = references_frame([])


def report(
    rows: Sequence[dict[str, Any]], quarantine: pl.DataFrame = NOBODY, shown_clips: Sequence[str] = ()
) -> Report:
    frame = stored_frame(rows).with_columns(dataset=pl.col("clip").str.split("/").list.first())
    return report_of(frame, quarantine, shown_clips, "000001")


def section(found: Report, title: str, chapter: int = 0) -> Section:
    (wanted,) = [part for part in found.chapters[chapter].sections if part.title == title]
    return wanted


def rated(clips: int, sweep: Sequence[int] = SWEEP) -> list[dict[str, Any]]:
    """Clips of one dataset, whose VMAF falls with the CRF and rises with the MOS."""
    return [
        feature_row(f"set/{clip}", crf, nr_mos=1.0 + clip, vmaf_score=100.0 - crf + clip, bitrate_kbps=5000.0 / crf)
        for clip in range(clips)
        for crf in sweep
    ]


@pytest.mark.parametrize(
    ("rows", "title", "words"),
    [
        (rated(4, (23,)), "VMAF over bitrate", "All rows have CRF 23: there are no curves to draw."),
        (rated(4, (23,)), "Curves that are not monotone", "All rows have CRF 23: there are no curves."),
        (rated(1), "VMAF at each CRF", "One clip only: there is no distribution to draw."),
        (rated(1), "Canonical-6 features", "One clip only: there is no distribution to draw."),
        (rated(2, (23,)), "Correlations of VMAF and features", "There are fewer than 3 rows: nothing to correlate."),
        ([feature_row(nr_mos=None)], "MOS and VMAF", "No clip has a MOS: there is nothing to compare VMAF with."),
        (rated(2), "MOS and VMAF", "No dataset has 3 clips with a MOS or more: nothing to correlate."),
        (rated(4), "Curves that are not monotone", "VMAF rises with CRF in none of 4 clips."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_reader_is_told_what_is_not_there_instead_of_shown_an_empty_plot(
    rows: list[dict[str, Any]], title: str, words: str
) -> None:
    found = section(report(rows), title)
    assert list(found.words) == [words]
    assert not found.pictures


def test_a_lone_clip_and_an_empty_quarantine_are_described_in_words() -> None:
    clip = feature_row(width=640, height=360, framerate=30000 / 1001, duration_s=2.5)
    mix, quarantine = report([clip]).chapters[-1].sections
    assert list(mix.words) == ["One clip: 640 x 360 pixels, 29.97 frames/s, 2.50 s."]
    assert list(quarantine.words) == ["No clip is in quarantine."]
    assert not mix.pictures


def test_features_that_never_change_are_named_and_not_called_uncorrelated() -> None:
    found = section(report(rated(4)), "Correlations of VMAF and features")
    assert list(found.words) == [
        f"The same in all rows, so that it correlates with nothing: {', '.join(FEATURE_MEANS)}."
    ]
    assert not found.pictures


def test_the_agreement_with_mos_is_that_of_each_crf_alone() -> None:
    # Over all CRFs together, the MOS would seem to say next to nothing of VMAF.
    found = report(rated(4))
    (table,) = section(found, "MOS and VMAF").tables
    assert [tuple(row) for row in table.rows] == [("set", str(crf), "4", "1.000", "1.000") for crf in SWEEP]
    assert found.numbers["SROCC of VMAF and MOS, set, CRF 18"] == pytest.approx(1)


def test_mos_of_datasets_with_different_scales_are_not_correlated_together() -> None:
    other = [{**row, "clip": f"other/{row['clip']}", "nr_mos": 100 - row["nr_mos"]} for row in rated(3)]
    found = section(report([*rated(4), *other]), "MOS and VMAF")
    assert [(row[0], row[3]) for row in found.tables[0].rows] == [("set", "1.000")] * 3 + [("other", "-1.000")] * 3
    assert [picture.caption.split(".")[0] for picture in found.pictures] == ["Dataset set", "Dataset other"]


def test_mos_that_are_all_the_same_have_no_correlation_rather_than_a_wrong_one() -> None:
    rows = [{**row, "nr_mos": 3.0} for row in rated(4)]
    (table,) = section(report(rows), "MOS and VMAF").tables
    assert [tuple(row) for row in table.rows] == [("set", str(crf), "4", "not defined", "not defined") for crf in SWEEP]


def test_clips_whose_vmaf_rises_with_crf_are_counted_and_the_worst_comes_first() -> None:
    scores = {"good": (99, 98, 97), "bad": (90, 91, 90), "worst": (80, 79, 95)}
    rows = [
        feature_row(clip, crf, vmaf_score=float(score))
        for clip, curve in scores.items()
        for crf, score in zip(SWEEP, curve, strict=True)
    ]
    found = report(rows)
    rising = section(found, "Curves that are not monotone")
    assert rising.words[0].startswith("VMAF rises with CRF in 2 of 3 clips")
    assert [tuple(row) for row in rising.tables[0].rows] == [
        ("worst", "23 to 28", "+16.000"),
        ("bad", "18 to 23", "+1.000"),
    ]
    assert found.numbers["clips whose VMAF rises with CRF"] == 2


def test_rows_of_two_encoders_are_never_mixed_in_one_picture() -> None:
    av1 = [feature_row("a", crf, encoder="libsvtav1", preset="8") for crf in (30, 40)]
    found = report([*av1, *sweep_rows("a", "b")])
    assert [chapter.title for chapter in found.chapters] == ["encoder preset", "libsvtav1 8", "The clips"]
    assert [row[0] for row in section(found, "VMAF at each CRF", 1).tables[0].rows] == ["30", "40"]


def test_reasons_of_quarantine_that_differ_in_a_number_count_together() -> None:
    reasons = {"c": "no video stream", "b": "it has 20 decode errors", "a": "it has 3 decode errors"}
    rows = [reference_row(clip, quarantine_reason=reason) for clip, reason in reasons.items()]
    (table,) = report(rated(2), references_frame(rows)).chapters[-1].sections[-1].tables
    assert [tuple(row) for row in table.rows] == [
        ("it has N decode errors", "a", "2"),
        ("no video stream", "c", "1"),
    ]
    assert list(table.shares) == [1.0, 0.5]


@pytest.mark.parametrize(
    ("clips", "shown", "letters"),
    [(3, [], ["set/0", "set/1", "set/2"]), (9, ["set/7", "set/2"], ["set/7", "set/2"])],
    ids=["few clips, all of them", "clips that were asked for, in that order"],
)
def test_every_curve_with_a_letter_has_the_name_of_its_clip_below(
    clips: int, shown: list[str], letters: list[str]
) -> None:
    found = section(report(rated(clips), shown_clips=shown), "VMAF over bitrate")
    (table,) = found.tables
    assert [tuple(row)[:2] for row in table.rows] == list(zip("ABC", letters, strict=False))
    assert len(found.pictures) == 1


def test_a_reader_of_many_clips_sees_their_band_and_how_to_see_one() -> None:
    found = section(report(rated(9)), "VMAF over bitrate")
    assert not found.tables
    assert "10 to 90 %" in found.pictures[0].caption
    assert "shown_clips" in found.pictures[0].caption


def test_the_same_rows_make_the_same_pictures() -> None:
    rows = fabricated_rows(60, SWEEP).with_columns(clip=pl.col("src"), dataset=pl.lit("set"))
    first, second = (
        [picture.png for chapter in made.chapters for part in chapter.sections for picture in part.pictures]
        for made in (report_of(rows, NOBODY, [], "000001"), report_of(rows, NOBODY, [], "000001"))
    )
    assert len(first) == 6
    assert first == second
