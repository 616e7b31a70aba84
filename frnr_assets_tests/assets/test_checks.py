"""Every asset check, seen failing for its own reason on tables that real runs made."""

import math
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frnr_assets.corpus.publish import current_version
from frnr_assets.corpus.schema import CLIPS_SCHEMA, FEATURE_ROWS_SCHEMA, ROW_SCHEMA
from frnr_assets.definitions import build_definitions
from frnr_assets_tests.assets.conftest import Project

Damage = Callable[[Project], None]
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


def evaluate(project: Project, *checks: dg.AssetCheckKey) -> dict[str, dg.AssetCheckEvaluation]:
    selection = dg.AssetSelection.checks(*checks) if checks else dg.AssetSelection.all_asset_checks()
    job = dg.define_asset_job("only_checks", selection)
    definitions = dg.Definitions.merge(build_definitions(project.settings), dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("only_checks").execute_in_process(
        instance=project.instance,
        # A blocking check that fails also fails the run.
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def manifest_rows(project: Project) -> list[dict[str, object]]:
    return project.tables.clips.read().to_dicts()


def manifest_without_mos(project: Project) -> None:
    table = pa.Table.from_pylist(manifest_rows(project), schema=CLIPS_SCHEMA).drop(["mos"])
    pq.write_table(table, project.settings.data_root / "tables" / "clips.parquet")


def same_clip_twice(project: Project) -> None:
    rows = manifest_rows(project)
    project.tables.clips.write([*rows, rows[0]])


def mos_of(value: float) -> Damage:
    def damage(project: Project) -> None:
        first, *others = manifest_rows(project)
        project.tables.clips.write([{**first, "mos": value}, *others])

    return damage


def source_gone(project: Project) -> None:
    first, *others = manifest_rows(project)
    project.tables.clips.write([{**first, "src": f"{first['src']}.gone"}, *others])


def row_rejected(project: Project) -> None:
    reject = {"manifest": "/m.csv", "line": 7, "dataset": "tests", "kind": "bad MOS", "reason": "MOS is nan", "row": ""}
    project.tables.rejects.write([reject])


def clip_missing_from_the_manifest(project: Project) -> None:
    project.tables.clips.write(manifest_rows(project)[1:])


def downloads_failed(project: Project) -> None:
    failed = {"url": "http://x/a.mp4", "size_bytes": None, "failure": "HTTP 404", "permanent": True, "attempts": 1}
    fine = {"url": "http://x/b.mp4", "size_bytes": 9, "failure": None, "permanent": False, "attempts": 1}
    project.tables.downloads.append([{"src": "/a.mp4", **failed}, {"src": "/b.mp4", **fine}])


def reference_with(**changes: object) -> Damage:
    def damage(project: Project) -> None:
        row = project.tables.references.read().row(by_predicate=pl.col("clip") == "bars", named=True)
        project.tables.references.append([{**row, **changes}])

    return damage


def row_with(**changes: object) -> Damage:
    def damage(project: Project) -> None:
        row = project.tables.feature_rows.read().row(
            by_predicate=(pl.col("clip") == "bars") & (pl.col("crf") == 38), named=True
        )
        project.tables.feature_rows.append([{**row, **changes}])

    return damage


def row_part_of_another_schema(project: Project) -> None:
    folder = project.settings.data_root / "tables" / "feature_rows"
    (part,) = folder.glob("*.parquet")
    pq.write_table(pq.read_table(part).drop(["motion2_std"]), part)


def published_file(project: Project, crf: int) -> Path:
    version = current_version(project.tables.corpus)
    assert version is not None
    (file,) = version.glob(f"crf={crf}/*.parquet")
    return file


def published_with(**changes: object) -> Damage:
    def damage(project: Project) -> None:
        file = published_file(project, 38)
        rows = pq.read_table(file, partitioning=None)
        changed = [{**row, **changes} for row in rows.to_pylist()]
        pq.write_table(pa.Table.from_pylist(changed, schema=rows.schema), file)

    return damage


def published_without_a_column(project: Project) -> None:
    for crf in (23, 38):
        file = published_file(project, crf)
        pq.write_table(pq.read_table(file, partitioning=None).drop(["nr_mos"]), file)


def published_twice(project: Project) -> None:
    file = published_file(project, 38)
    file.with_name("again.parquet").write_bytes(file.read_bytes())


def published_files_lost(project: Project) -> None:
    for crf in (23, 38):
        published_file(project, crf).unlink()


def published_file_lost(project: Project) -> None:
    published_file(project, 38).unlink()


def clip_without_rows(project: Project) -> None:
    rows = manifest_rows(project)
    project.tables.clips.write([*rows, {**rows[0], "clip": "new"}])


CASES = [
    ("source_manifest", "manifest_schema", manifest_without_mos, ERROR, "column mos is missing"),
    ("source_manifest", "clip_keys_unique", same_clip_twice, ERROR, "clip key used twice (1): bars"),
    ("source_manifest", "mos_in_scale", mos_of(9.0), ERROR, "MOS is not within the declared scale 1 to 5 (1): bars"),
    ("source_manifest", "mos_in_scale", mos_of(math.nan), ERROR, "MOS is not finite (1): bars"),
    ("source_manifest", "sources_present", source_gone, ERROR, "source is not a file (1): bars"),
    (
        "source_manifest",
        "rows_accepted",
        row_rejected,
        WARN,
        "1 rows rejected, bad MOS; first /m.csv, line 7: MOS is nan",
    ),
    (
        "source_manifest",
        "clip_count_expected",
        clip_missing_from_the_manifest,
        WARN,
        "tests has 2 rows where 3 are expected; is it another dataset?",
    ),
    ("source_manifest", "downloads_work", downloads_failed, WARN, "1 of 2 downloads failed, more than 10%"),
    ("decoded_reference", "reference_facts_sane", reference_with(frames=0), ERROR, "reference has no frame (1): bars"),
    ("decoded_reference", "reference_facts_sane", reference_with(width=60), ERROR, "working size is not"),
    (
        "decoded_reference",
        "reference_facts_sane",
        reference_with(rate_num=1000, rate_den=1),
        ERROR,
        "frame rate is not",
    ),
    ("decoded_reference", "clips_usable", lambda _: None, WARN, "in quarantine, because it could not be probed"),
    ("feature_rows", "row_schema", row_part_of_another_schema, ERROR, "column motion2_std is missing"),
    ("feature_rows", "rows_from_nr", row_with(fr_from_nr=False), ERROR, "fr_from_nr is not true (1): bars"),
    ("feature_rows", "values_in_range", row_with(vmaf_score=100.5), ERROR, "VMAF is not in 0..100 (1): bars"),
    ("feature_rows", "values_in_range", row_with(adm2_mean=math.nan), ERROR, "adm2 is not finite"),
    ("feature_rows", "values_in_range", row_with(motion2_std=math.inf), ERROR, "motion2 is not finite"),
    ("feature_rows", "sources_consistent", row_with(nr_source="other.mp4"), ERROR, "nr_source is not src (1): bars"),
    ("fr_corpus", "corpus_schema", published_without_a_column, ERROR, "column nr_mos is missing"),
    ("fr_corpus", "corpus_schema", published_files_lost, ERROR, "has no files any more"),
    ("fr_corpus", "row_count", published_files_lost, ERROR, "has no files any more"),
    ("fr_corpus", "corpus_from_nr", published_with(fr_from_nr=False), ERROR, "fr_from_nr is not true (2)"),
    ("fr_corpus", "corpus_values_in_range", published_with(vmaf_score=math.nan), ERROR, "VMAF is not in 0..100 (2)"),
    ("fr_corpus", "corpus_values_in_range", published_with(nr_mos=7.0), ERROR, "MOS is not within"),
    ("fr_corpus", "one_row_per_cell", published_twice, ERROR, "more than one row for a (src_sha256, encoder"),
    ("fr_corpus", "row_count", published_file_lost, ERROR, "2 rows are there, 4 were published"),
    ("fr_corpus", "sweeps_complete", published_file_lost, WARN, "sweep is not complete (2)"),
    ("fr_corpus", "sweeps_complete", clip_without_rows, WARN, "clip has no row (1): new"),
    (
        "fr_corpus",
        "one_recipe",
        published_with(vmaf_model="other"),
        WARN,
        "rows of libx264 medium differ in vmaf_model",
    ),
    ("fr_corpus", "quality_falls_with_crf", published_with(vmaf_score=99.9), WARN, "VMAF rises with CRF (2)"),
]


@pytest.mark.parametrize(
    ("asset", "name", "damage", "severity", "words"), CASES, ids=[f"{case[1]}: {case[4][:30]}" for case in CASES]
)
def test_a_check_fails_for_its_own_reason(
    published: Project, asset: str, name: str, damage: Damage, severity: dg.AssetCheckSeverity, words: str
) -> None:
    damage(published)
    evaluation = evaluate(published, dg.AssetCheckKey(dg.AssetKey(asset), name))[name]
    assert not evaluation.passed
    assert evaluation.severity == severity
    assert evaluation.description is not None
    assert words in evaluation.description


def test_all_checks_but_the_one_on_quarantine_pass_on_a_good_corpus(published: Project) -> None:
    evaluations = evaluate(published)
    assert {name for name, evaluation in evaluations.items() if not evaluation.passed} == {"clips_usable"}
    assert {case[1] for case in CASES} == set(evaluations), "every check has a case in which it fails"


def test_checks_before_anything_was_made_say_what_to_materialize(published: Project, tmp_path: Path) -> None:
    empty = published.with_settings(data_root=tmp_path / "empty")
    evaluations = evaluate(
        empty,
        dg.AssetCheckKey(dg.AssetKey("source_manifest"), "clip_keys_unique"),
        dg.AssetCheckKey(dg.AssetKey("fr_corpus"), "corpus_schema"),
    )
    assert (
        evaluations["clip_keys_unique"].description
        == "there is no table of clips yet; materialize source_manifest first"
    )
    assert evaluations["corpus_schema"].description == "there is no published corpus yet; materialize fr_corpus first"


def test_the_table_schemas_of_the_contract_agree() -> None:
    shared = [FEATURE_ROWS_SCHEMA.field(name) for name in ROW_SCHEMA.names]
    assert pa.schema(shared).equals(ROW_SCHEMA)
