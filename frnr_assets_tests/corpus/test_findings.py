from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from frnr_assets.corpus import findings
from frnr_assets.corpus.findings import Finding
from frnr_assets.corpus.schema import FEATURE_MEANS, FEATURE_STDS, ROW_SCHEMA
from frnr_assets.vocabulary import CANONICAL6_FEATURES
from frnr_assets_tests.corpus.rows import (
    MOS_SCALE,
    SWEEP,
    corpus_frame,
    feature_row,
    reference_row,
    references_frame,
    stored_frame,
    sweep_rows,
)

NAN, INFINITY = float("nan"), float("inf")
NOT_A_NUMBER = [NAN, INFINITY, -INFINITY, None]


def _clips(found: Sequence[Finding]) -> list[str]:
    return [clip for finding in found for clip in finding.clips]


def _features() -> list[tuple[str, float]]:
    limits = dict.fromkeys(CANONICAL6_FEATURES, 2.0) | {"motion2": 255.0}
    return [
        (column, limits[feature])
        for columns in (FEATURE_MEANS, FEATURE_STDS)
        for column, feature in zip(columns, CANONICAL6_FEATURES, strict=True)
    ]


class TestValuesImplausible:
    @pytest.mark.parametrize("value", [*NOT_A_NUMBER, 100.0001, 1e9, -0.0001])
    def test_a_score_that_no_vmaf_can_be_does_not_reach_trainers(self, value: float | None) -> None:
        rows = stored_frame([feature_row("bad", vmaf_score=value), feature_row("good")])
        assert _clips(findings.values_implausible(rows)) == ["bad"]

    @pytest.mark.parametrize(
        ("column", "value"),
        [(column, value) for column, limit in _features() for value in [*NOT_A_NUMBER, -0.001, limit + 0.001]],
    )
    def test_a_feature_that_libvmaf_cannot_give_does_not_reach_trainers(self, column: str, value: float | None) -> None:
        rows = stored_frame([feature_row("good"), feature_row("bad") | {column: value}])
        found = findings.values_implausible(rows)
        assert _clips(found) == ["bad"]
        assert column.rsplit("_", 1)[0] in found[0].problem

    @pytest.mark.parametrize("value", [1, -9, None])
    def test_a_row_of_a_failed_tool_does_not_reach_trainers(self, value: int | None) -> None:
        rows = stored_frame([feature_row("bad", exit_status=value), feature_row("good")])
        assert _clips(findings.values_implausible(rows)) == ["bad"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"vmaf_score": 0.0},
            {"vmaf_score": 100.0},
            dict.fromkeys((column for column, _ in _features()), 0.0),
            dict(_features()),
        ],
    )
    def test_the_ends_of_the_ranges_are_no_false_alarm(self, changes: dict[str, float]) -> None:
        assert findings.values_implausible(stored_frame([feature_row() | changes])) == []


class TestMosImplausible:
    @pytest.mark.parametrize("mos", [NAN, INFINITY, -INFINITY, 0.999, 5.001, -3.0])
    def test_a_mos_off_its_scale_is_noticed(self, mos: float) -> None:
        manifest = pl.DataFrame({"clip": ["good", "bad", "none"], "mos": [3.0, mos, None]})
        assert _clips(findings.mos_implausible(manifest, MOS_SCALE)) == ["bad"]
        rows = corpus_frame([feature_row("bad", nr_mos=mos), feature_row("good")])
        assert _clips(findings.mos_implausible(rows, MOS_SCALE, "nr_mos", "src")) == ["/clips/bad.mp4"]

    @pytest.mark.parametrize("mos", [None, 1.0, 5.0])
    def test_a_missing_mos_and_the_ends_of_the_scale_are_no_false_alarm(self, mos: float | None) -> None:
        manifest = pl.DataFrame({"clip": ["good"], "mos": [mos]}, schema={"clip": pl.String, "mos": pl.Float64})
        assert findings.mos_implausible(manifest, MOS_SCALE) == []


class TestManifest:
    def test_two_clips_that_would_share_a_partition_are_named_once(self) -> None:
        manifest = pl.DataFrame({"clip": ["a", "b", "a", "c", "b", "a"]})
        (finding,) = findings.duplicate_keys(manifest)
        assert sorted(finding.clips) == ["a", "b"]
        assert finding.count == 2

    def test_clips_of_their_own_partitions_are_no_false_alarm(self) -> None:
        assert findings.duplicate_keys(pl.DataFrame({"clip": ["a", "A", "a "]})) == []

    def test_a_clip_that_was_not_downloaded_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file.mp4").touch()
        (tmp_path / "link.mp4").symlink_to("file.mp4")
        (tmp_path / "dangling.mp4").symlink_to("nowhere.mp4")
        (tmp_path / "folder.mp4").mkdir()
        names = ["file", "link", "dangling", "folder", "missing"]
        manifest = pl.DataFrame({"clip": names, "src": [str(tmp_path / f"{name}.mp4") for name in names]})
        assert _clips(findings.sources_missing(manifest)) == ["dangling", "folder", "missing"]
        assert findings.sources_missing(manifest.head(2)) == []


class TestReferenceImplausible:
    @pytest.mark.parametrize(
        "changes",
        [
            {"frames": 0},
            {"frames": -1},
            {"frames": None},
            {"rate_num": 0},
            {"rate_num": -25, "rate_den": 1},
            {"rate_num": 1, "rate_den": 2},
            {"rate_num": 90000, "rate_den": 1},
            {"rate_den": 0},
            {"rate_num": 0, "rate_den": 0},
            {"rate_num": None},
            {"rate_den": None},
            {"width": 642},
            {"width": 639},
            {"width": None},
            {"source_width": None},
            {"height": 361},
            {"height": 358},
            {"height": None},
            {"source_height": None},
            {"src_sha256": "abc"},
            {"src_sha256": ""},
            {"src_sha256": None},
        ],
        ids=str,
    )
    def test_facts_that_contradict_each_other_are_noticed(self, changes: dict[str, Any]) -> None:
        references = references_frame([reference_row("good"), reference_row("bad", **changes)])
        assert set(_clips(findings.reference_implausible(references))) == {"bad"}

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"frames": 1},
            {"rate_num": 1, "rate_den": 1},
            {"rate_num": 240, "rate_den": 1},
            {"source_width": 640, "source_height": 360},
            {"source_width": 641, "source_height": 361},
            {"quarantine_reason": "it is empty", "frames": None, "width": None, "src_sha256": None},
        ],
        ids=str,
    )
    def test_plausible_facts_and_clips_in_quarantine_are_no_false_alarm(self, changes: dict[str, Any]) -> None:
        assert findings.reference_implausible(references_frame([reference_row(**changes)])) == []


class TestProvenance:
    @pytest.mark.parametrize("value", [False, None])
    def test_a_row_that_would_pass_for_a_mastered_one_is_noticed(self, value: bool | None) -> None:
        rows = stored_frame([feature_row("good"), feature_row("bad", fr_from_nr=value)])
        assert _clips(findings.not_from_nr(rows)) == ["bad"]
        assert findings.not_from_nr(rows.head(1)) == []

    @pytest.mark.parametrize(
        "changes", [{"nr_source": "/clips/other.mp4"}, {"nr_source": ""}, {"nr_source": None}, {"src": None}], ids=str
    )
    def test_a_row_whose_mos_belongs_to_another_file_is_noticed(self, changes: dict[str, str | None]) -> None:
        rows = stored_frame([feature_row("good"), feature_row("bad") | changes])
        assert _clips(findings.sources_inconsistent(rows)) == ["bad"]
        assert findings.sources_inconsistent(rows.head(1)) == []


def _quarantine(reasons: Mapping[str, str]) -> pl.DataFrame:
    columns = {"clip": list(reasons), "quarantine_reason": list(reasons.values())}
    return pl.DataFrame(columns, schema={"clip": pl.String, "quarantine_reason": pl.String})


class TestQuarantined:
    def test_lost_clips_are_counted_by_reason_the_most_frequent_first(self) -> None:
        reasons = {"d": "decode failed", "e": "a rare reason", "c": "decode failed", "a": "it is empty"}
        found = findings.quarantined(_quarantine(reasons))
        assert [(finding.count, finding.clips) for finding in found] == [(2, ("c", "d")), (1, ("e",)), (1, ("a",))]
        assert "decode failed" in str(found[0])

    def test_no_clip_in_quarantine_is_no_false_alarm(self) -> None:
        assert findings.quarantined(_quarantine({})) == []

    def test_a_message_about_very_many_clips_stays_readable(self) -> None:
        (finding,) = findings.quarantined(_quarantine({f"c{i:03}": "it is empty" for i in range(200)}))
        assert finding.count == 200
        assert len(str(finding)) < 200
        assert "200" in str(finding)
        assert str(finding).endswith("...")


def _rejects(*rows: tuple[str, int, str]) -> pl.DataFrame:
    columns = ["dataset", "line", "kind"]
    found = pl.DataFrame(list(rows), schema=dict.fromkeys(columns, pl.String) | {"line": pl.Int64}, orient="row")
    reason = pl.format("reason {}", "line").alias("reason")
    return found.with_columns(pl.format("/{}.csv", "dataset").alias("manifest"), reason)


class TestIngestion:
    def test_rejected_rows_are_counted_by_kind_with_the_first_of_each(self) -> None:
        rows = [("k", 4, "bad MOS"), ("k", 9, "no file"), ("k", 5, "bad MOS"), ("l", 2, "no file"), ("l", 3, "no file")]
        frequent, rare = map(str, findings.rows_rejected(_rejects(*rows)))
        assert frequent == "3 rows rejected, no file; first /k.csv, line 9: reason 9"
        assert rare == "2 rows rejected, bad MOS; first /k.csv, line 4: reason 4"

    def test_no_rejected_row_is_no_false_alarm(self) -> None:
        assert findings.rows_rejected(_rejects()) == []

    @pytest.mark.parametrize(("expected", "differs"), [(3, True), (4, False), (5, True), (None, False)])
    def test_another_dataset_than_was_declared_is_noticed(self, expected: int | None, differs: bool) -> None:
        clips = _rejects(("k", 2, ""), ("k", 3, ""), ("l", 2, "")).drop("kind", "reason")
        rejects = _rejects(("k", 4, "bad MOS"), ("k", 5, "no file"), ("l", 3, "no file"))
        found = findings.clip_count_differs(clips, rejects, {"k": expected, "l": 2})
        assert [str(finding) for finding in found] == (
            [f"k has 4 rows where {expected} are expected; is it another dataset?"] if differs else []
        )

    def test_a_dataset_without_any_row_is_noticed(self) -> None:
        (finding,) = findings.clip_count_differs(_rejects(), _rejects(), {"k": 1})
        assert "k has 0 rows where 1 are expected" in str(finding)

    def test_a_clip_that_is_kept_although_its_row_went_bad_is_one_row(self) -> None:
        clips = _rejects(("k", 2, ""), ("k", 3, ""))
        assert findings.clip_count_differs(clips, _rejects(("k", 3, "bad MOS")), {"k": 2}) == []

    @pytest.mark.parametrize(
        ("failed", "total", "noticed"), [(0, 0, False), (0, 10, False), (1, 10, False), (2, 10, True)]
    )
    def test_a_host_that_refuses_many_downloads_is_noticed(self, failed: int, total: int, noticed: bool) -> None:
        failures = ["HTTP 404"] * failed + [None] * (total - failed)
        urls = [f"https://host/{number}" for number in range(total)]
        downloads = pl.DataFrame(
            {"url": urls, "failure": failures}, schema=dict.fromkeys(("url", "failure"), pl.String)
        )
        found = findings.downloads_failing(downloads, 0.1)
        assert [finding.count for finding in found] == ([failed] if noticed else [])
        assert all("2 of 10 downloads failed, more than 10%; first https://host/0: HTTP 404" in str(f) for f in found)


class TestCells:
    @pytest.mark.parametrize(
        "duplicate",
        [{}, {"vmaf_score": 12.0, "run_id": "later"}, {"extra_params": ["-tune", "film"]}, {"clip": "copy"}],
        ids=str,
    )
    def test_a_cell_that_counts_twice_in_training_is_noticed(self, duplicate: dict[str, Any]) -> None:
        rows = sweep_rows("a", "b")
        again = rows[1] | duplicate
        assert _clips(findings.cells_repeated(corpus_frame([*rows, again]), "src")) == ["/clips/a.mp4"]

    def test_the_same_upload_under_two_names_is_noticed(self) -> None:
        rows = [feature_row("a"), feature_row("b", src_sha256=feature_row("a")["src_sha256"])]
        assert _clips(findings.cells_repeated(stored_frame(rows))) == ["a", "b"]

    @pytest.mark.parametrize("other", [{"crf": 19}, {"preset": "slow"}, {"encoder": "libx265"}, {"src_sha256": "b"}])
    def test_different_cells_are_no_false_alarm(self, other: dict[str, Any]) -> None:
        assert findings.cells_repeated(stored_frame([feature_row("a"), feature_row("a", **other)])) == []

    def test_a_source_without_some_crf_is_named(self) -> None:
        rows = [row for row in sweep_rows("c", "a", "b") if (row["clip"], row["crf"]) not in {("c", 23), ("a", 18)}]
        assert _clips(findings.sweeps_incomplete(stored_frame(rows), SWEEP)) == ["a", "c"]

    def test_a_sweep_that_is_complete_only_across_presets_is_not_complete(self) -> None:
        rows = [feature_row("a", crf, preset="slow" if crf == 23 else "medium") for crf in SWEEP]
        (finding,) = findings.sweeps_incomplete(stored_frame(rows), SWEEP)
        assert finding.clips == ("a",)
        assert finding.count == 1

    @pytest.mark.parametrize("sweep", [SWEEP, SWEEP[:1], SWEEP[::-1]], ids=str)
    def test_rows_beyond_the_sweep_are_no_false_alarm(self, sweep: Sequence[int]) -> None:
        assert findings.sweeps_incomplete(stored_frame(sweep_rows("a", "b")), sweep) == []

    @pytest.mark.parametrize("scores", [(90.0, 80.0, 80.001), (80.0, 90.0, 70.0), (99.0, 99.5, 99.5)], ids=str)
    def test_a_quality_that_rises_with_crf_is_noticed(self, scores: Sequence[float]) -> None:
        rows = [feature_row("bad", crf, vmaf_score=score) for crf, score in zip(SWEEP, scores, strict=True)]
        frame = stored_frame([*reversed(rows), *sweep_rows("good")])
        assert _clips(findings.quality_rises(frame)) == ["bad"]

    @pytest.mark.parametrize("scores", [(90.0, 80.0, 70.0), (90.0, 90.0, 90.0)], ids=str)
    def test_a_quality_that_falls_or_stays_is_no_false_alarm(self, scores: Sequence[float]) -> None:
        rows = [feature_row("a", crf, vmaf_score=score) for crf, score in zip(SWEEP, scores, strict=True)]
        low = [feature_row(clip, crf, vmaf_score=1.0) for clip in ("Z", "b") for crf in SWEEP]
        other = [feature_row("a", crf, preset="slow", vmaf_score=95.0) for crf in SWEEP]
        assert findings.quality_rises(stored_frame([*reversed(rows), *low, *other])) == []


class TestSchemaDiffers:
    @pytest.mark.parametrize(
        ("change", "named"),
        [
            (lambda schema: schema.remove(schema.get_field_index("vmaf_score")), ["vmaf_score is missing"]),
            (lambda schema: schema.append(pa.field("surprise", pa.string())), ["surprise"]),
            (lambda schema: pa.schema(list(schema)[::-1]), ["order"]),
            (lambda schema: _changed(schema, "crf", pa.field("crf", pa.int64(), nullable=False)), ["crf"]),
            (lambda schema: _changed(schema, "crf", pa.field("crf", pa.int32(), nullable=True)), ["crf"]),
            (lambda schema: _changed(schema, "nr_mos", pa.field("nr_mos", pa.float64(), nullable=False)), ["nr_mos"]),
            (lambda schema: _changed(schema, "src", pa.field("src", pa.large_string(), nullable=False)), ["src"]),
            (
                lambda schema: _changed(
                    schema, "extra_params", pa.field("extra_params", pa.list_(pa.string()), nullable=False)
                ),
                ["extra_params"],
            ),
            (
                lambda schema: _changed(schema, "crf", pa.field("CRF", pa.int32(), nullable=False)),
                ["crf is missing", "CRF is not in"],
            ),
            (lambda schema: schema.append(schema.field("crf")), ["crf"]),
        ],
        ids=[
            "missing",
            "extra",
            "reordered",
            "retyped",
            "nullable",
            "not nullable",
            "large string",
            "list of nullable",
            "renamed",
            "twice",
        ],
    )
    def test_a_reader_is_told_which_column_broke_the_contract(
        self, change: Callable[[pa.Schema], pa.Schema], named: Sequence[str]
    ) -> None:
        found = list(map(str, findings.schema_differs(change(ROW_SCHEMA), ROW_SCHEMA)))
        assert len(found) == len(named)
        assert all(any(words in problem for problem in found) for words in named)

    def test_other_metadata_is_no_false_alarm(self) -> None:
        bare = pa.schema([field.remove_metadata() for field in ROW_SCHEMA])
        assert findings.schema_differs(bare.with_metadata({"rows": "1"}), ROW_SCHEMA) == []


def _changed(schema: pa.Schema, name: str, field: "pa.Field[pa.DataType]") -> pa.Schema:
    return schema.set(schema.get_field_index(name), field)


class TestRowErrors:
    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"vmaf_score": 100.0001}, "VMAF"),
            ({"vmaf_score": NAN}, "VMAF"),
            ({"adm2_mean": NAN}, "adm2"),
            ({"exit_status": 1}, "exit_status"),
            ({"fr_from_nr": False}, "fr_from_nr"),
            ({"nr_source": "/clips/other.mp4"}, "nr_source"),
            ({"nr_mos": 5.5}, "MOS"),
            ({"nr_mos": NAN}, "MOS"),
            ({"crf": 23}, "more than one row"),
        ],
        ids=str,
    )
    def test_every_rule_stands_between_a_broken_row_and_the_corpus(self, changes: dict[str, Any], problem: str) -> None:
        rows = sweep_rows("bad", "good")
        rows[0] |= changes
        (finding,) = findings.row_errors(ROW_SCHEMA, corpus_frame(rows), published=len(rows), mos_scale=MOS_SCALE)
        assert problem in finding.problem
        assert set(finding.clips) == {"/clips/bad.mp4"}

    @pytest.mark.parametrize("published", [5, 7])
    def test_rows_that_went_missing_on_the_way_are_noticed(self, published: int) -> None:
        rows = corpus_frame(sweep_rows("a", "b"))
        (finding,) = findings.row_errors(ROW_SCHEMA, rows, published=published, mos_scale=MOS_SCALE)
        assert "6 rows" in str(finding)
        assert str(published) in str(finding)

    def test_a_wrong_schema_is_the_finding_whatever_the_values(self) -> None:
        rows = corpus_frame(sweep_rows("a"))
        schema = ROW_SCHEMA.remove(ROW_SCHEMA.get_field_index("nr_mos"))
        found = findings.row_errors(schema, rows.drop("nr_mos"), published=3, mos_scale=MOS_SCALE)
        assert [str(finding) for finding in found] == ["column nr_mos is missing"]

    def test_a_sound_corpus_is_no_false_alarm(self) -> None:
        rows = [row | {"nr_mos": None} if row["clip"] == "b" else row for row in sweep_rows("a", "b")]
        assert findings.row_errors(ROW_SCHEMA, corpus_frame(rows), published=6, mos_scale=MOS_SCALE) == []
