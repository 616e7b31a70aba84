"""The report as an asset: what a person sees in the UI."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg
import pytest

from bench.fabricate import fabricate_corpus
from frnr_assets.assets.corpus_report import CORPUS_REPORT
from frnr_assets.corpus.tables import Tables
from frnr_assets.definitions import build_definitions
from frnr_assets.settings import Settings

SWEEP = (23, 38)


def materialize(data_root: Path, shown_clips: Sequence[str] = ()) -> dg.ExecuteInProcessResult:
    job = build_definitions(Settings(data_root=data_root)).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        asset_selection=[CORPUS_REPORT],
        raise_on_error=False,
        run_config={
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            "ops": {"corpus_report": {"config": {"shown_clips": list(shown_clips)}}},
        },
    )


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    fabricate_corpus(Tables(folder), 200, SWEEP)
    return folder


def shown(result: dg.ExecuteInProcessResult) -> Mapping[str, dg.MetadataValue]:
    assert result.success
    (made,) = result.asset_materializations_for_node("corpus_report")
    return made.metadata


def test_an_operator_sees_pictures_counts_and_where_the_page_is(data_root: Path) -> None:
    metadata = shown(materialize(data_root, ["0000000007"]))
    curves = str(metadata["VMAF over bitrate"].value)
    assert curves.startswith("![VMAF over bitrate](data:image/png;base64,")
    assert "| A | 0000000007 |" in curves
    assert metadata["rows"].value == 400
    assert metadata["clips with a MOS"].value == 180
    assert metadata["clips in quarantine"].value == 1
    assert isinstance(metadata["SROCC of VMAF and MOS, bench, CRF 23"].value, float)
    assert Path(str(metadata["path"].value)).is_file()


@pytest.mark.parametrize(
    ("root", "clips", "sentence"),
    [
        ("", ["nobody"], "shown_clips has clips without a row in the corpus: nobody"),
        ("elsewhere", [], "there is no published corpus yet; materialize fr_corpus first"),
    ],
    ids=["an unknown clip", "no corpus"],
)
def test_what_cannot_be_drawn_is_one_sentence(data_root: Path, root: str, clips: list[str], sentence: str) -> None:
    result = materialize(data_root / root, clips)
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data is not None
    assert sentence in str(failure.user_failure_data.description)
