"""Two configurations of one data root, materialized one after the other: one corpus with the rows of both encoders."""

from collections.abc import Mapping

import dagster as dg
import polars as pl

from frnr_assets.assets.cells import FEATURE_ROWS
from frnr_assets.assets.decoded_reference import DECODED_REFERENCE
from frnr_assets.automation import CELLS, PUBLISH, REFERENCES
from frnr_assets.corpus.publish import current_version
from frnr_assets.corpus.schema import ROW_SCHEMA
from frnr_assets_tests.assets.conftest import Project

X264_CRFS, SVT_CRFS = (23, 38), (38, 55)
BLOCKING = {"corpus_schema", "corpus_from_nr", "corpus_values_in_range", "one_row_per_cell", "row_count"}
# The project has a clip in quarantine on purpose.
EXPECTED = {"clips_usable"}

Evaluations = Mapping[str, dg.AssetCheckEvaluation]


def svt(project: Project) -> Project:
    return project.with_settings(encoder="libsvtav1", preset="10", crf_sweep=SVT_CRFS)


def measure(project: Project) -> None:
    low, high = project.settings.crf_sweep
    for job, first, last in ((REFERENCES, "bars", "broken"), (CELLS, f"bars|{low}", f"broken|{high}")):
        assert project.run(job, first=first, last=last).success, job


def measure_and_publish(project: Project) -> Evaluations:
    """Decode, measure and publish with a project's settings; return what the checks say."""
    measure(project)
    return publish(project)


def publish(project: Project) -> Evaluations:
    result = project.run(PUBLISH)
    assert result.success
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def complaints(checks: Evaluations) -> dict[str, str | None]:
    return {name: found.description for name, found in checks.items() if not found.passed}


def test_one_corpus_has_the_rows_of_both_and_every_check_agrees_also_when_they_take_turns(
    materialized: Project,
) -> None:
    checks = measure_and_publish(svt(materialized))
    version = current_version(materialized.tables.corpus)
    assert version is not None
    corpus = pl.read_parquet(version)
    assert corpus.columns == ROW_SCHEMA.names
    rows = corpus.select("encoder", "preset", "crf", "width").sort("encoder", "width", "crf").rows()
    assert rows == [
        *(("libsvtav1", "10", crf, width) for width in (64, 66) for crf in SVT_CRFS),
        *(("libx264", "medium", crf, width) for width in (64, 66) for crf in X264_CRFS),
    ]
    assert checks.keys() >= BLOCKING
    assert complaints(checks).keys() == EXPECTED

    before = materialized.tables.feature_rows.read()
    assert complaints(measure_and_publish(materialized)).keys() == EXPECTED
    assert materialized.tables.feature_rows.read().equals(before), "nothing was measured again"
    decoded = [made.metadata for made in materialized.materializations(DECODED_REFERENCE) if made.partition != "broken"]
    assert [facts["reused"].value for facts in decoded] == [False] * 2 + [True] * 4
    recorded = [made.metadata for made in materialized.materializations(FEATURE_ROWS) if "reused" in made.metadata]
    assert [cell["reused"].value for cell in recorded] == [False] * 8 + [True] * 4


def test_what_one_encoder_lacks_is_missed_whatever_the_other_has(materialized: Project) -> None:
    other = svt(materialized)
    assert other.run(CELLS, first=f"bars|{SVT_CRFS[0]}", last=f"bars|{SVT_CRFS[0]}").success
    found = complaints(publish(other))
    assert found.keys() == {*EXPECTED, "sweeps_complete"}
    said = str(found["sweeps_complete"])
    assert "clip has no row (1): odd" in said
    assert f"sweep is not complete (1): {materialized.clips / 'bars.mp4'}" in said
