"""The mixed corpus in the graph: there when it is configured, beside fr_corpus and never in it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from frnr_assets import load_corpus
from frnr_assets.assets.mixed_corpus import MIXED_CORPUS
from frnr_assets.automation import PUBLISH
from frnr_assets.corpus.dataset import FrDataset
from frnr_assets.corpus.publish import find_version, version_files
from frnr_assets.definitions import build_definitions
from frnr_assets.settings import Settings
from frnr_assets.vocabulary import CAVEAT, MIXED_CAVEAT
from frnr_assets_tests.assets.conftest import Project, project_like
from frnr_assets_tests.assets.test_checks import evaluate
from frnr_assets_tests.corpus.test_mixed import fr_row

MIXED_CHECKS = ("mixed_schema", "mixed_values_in_range", "both_strata_present", "no_source_in_both")


def with_masters(project: Project, folder: Path) -> Project:
    path = folder / "netflix.jsonl"
    lines = [json.dumps(fr_row("crowd_run", 20)), json.dumps(fr_row("|sunrise|", 35)), '{"src": "\x1b[2J|"}']
    path.write_text("".join(f"{line}\n" for line in lines))
    return project.with_settings(fr_datasets=(FrDataset(name="netflix", rows=path, licence="CC BY-NC-ND 4.0"),))


@pytest.fixture
def mixing(published: Project, tmp_path: Path) -> Project:
    return with_masters(published, tmp_path)


@pytest.fixture(scope="module")
def mixed_once(
    materialized_once: Path, decoded_once: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("mixed")
    with project_like(materialized_once, folder, decoded_once / "clips") as project:
        made = with_masters(project, folder)
        assert made.run(PUBLISH).success
        yield made


@pytest.fixture
def mixed(mixed_once: Project, tmp_path: Path) -> Project:
    """A project whose mixed corpus was published, with tables of the test's own to damage."""
    shutil.copytree(mixed_once.settings.data_root, tmp_path / "data", symlinks=True)
    return mixed_once.with_settings(data_root=tmp_path / "data")


def keys(settings: Settings) -> set[str]:
    return {key.to_user_string() for key in build_definitions(settings).resolve_asset_graph().get_all_asset_keys()}


def test_without_full_reference_datasets_there_is_no_mixed_corpus_to_explain() -> None:
    assert "mixed_corpus" not in keys(Settings())


def test_the_mixed_corpus_says_what_it_is(mixing: Project) -> None:
    spec = build_definitions(mixing.settings).resolve_asset_graph().get(MIXED_CORPUS)
    assert spec.description is not None
    assert MIXED_CAVEAT in spec.description
    assert CAVEAT not in spec.description
    assert spec.owners
    assert spec.kinds
    assert spec.group_name == "fr_from_nr"
    assert spec.code_version
    assert {key.to_user_string() for key in spec.parent_keys} == {"fr_corpus"}


def test_one_publication_brings_both_and_keeps_masters_out_of_fr_corpus(mixing: Project) -> None:
    result = mixing.run(PUBLISH)
    assert result.success, mixing.failures(result)
    passed = {found.check_name: found.passed for found in result.get_asset_check_evaluations()}
    assert {name: passed[name] for name in MIXED_CHECKS} == dict.fromkeys(MIXED_CHECKS, True)
    data_root = mixing.settings.data_root
    ours, mixed = load_corpus(data_root).collect(), load_corpus(data_root, "mixed_corpus").collect()
    assert set(ours["dataset"]) == {"tests"}
    assert mixed.group_by("dataset").len().sort("dataset").rows() == [("netflix", 2), ("tests", len(ours))]
    card = mixing.tables.mixed_card.read_text()
    assert card.startswith(f"# mixed_corpus\n\n> **The caveat.** {MIXED_CAVEAT}")
    assert "| netflix | CC BY-NC-ND 4.0 |" in card
    assert "| netflix | masters | 2 | 2 |" in card
    assert "-c:v libx264 -preset medium -crf 23" in card

    (made,) = mixing.materializations(MIXED_CORPUS)[-1:]
    shown = {name: value.value for name, value in made.metadata.items()}
    assert (shown["rows of masters"], shown["rows from uploads"], shown["rows left out"]) == (2, len(ours), 1)
    assert shown["rows left out, the first"] == (
        "| dataset | line | reason |\n|---|---|---|\n"
        "| netflix | 3 | not JSON (Invalid control character at: line 1 column 10 (char 9)) |"
    )
    assert mixing.tables.fr_rejects.read()["line"].to_list() == [3]


def test_a_file_without_a_usable_row_is_one_sentence_and_fr_corpus_is_published_all_the_same(mixing: Project) -> None:
    (dataset,) = mixing.settings.fr_datasets
    dataset.rows.write_text("[]\n")
    before = find_version(mixing.tables.corpus)
    result = mixing.run(PUBLISH)
    assert not result.success
    (message,) = mixing.failures(result)
    assert message.startswith(f"{dataset.rows}: none of its rows can be used; line 1: not a JSON object")
    assert "\n" not in message
    assert find_version(mixing.tables.corpus) != before
    assert not mixing.tables.mixed_corpus.exists()


@pytest.mark.parametrize(
    ("check", "damage", "sentence"),
    [
        ("mixed_schema", {"vmaf_score": pl.lit("90")}, "column vmaf_score is"),
        ("mixed_values_in_range", {"vmaf_score": pl.lit(101.0)}, "VMAF is not in 0..100"),
        ("both_strata_present", {"fr_from_nr": pl.lit(value=True)}, "there is no row whose fr_from_nr is false"),
        ("no_source_in_both", {"src": pl.lit("one")}, "source is both an upload and a master"),
    ],
)
def test_each_check_finds_what_it_is_for(mixed: Project, check: str, damage: dict[str, pl.Expr], sentence: str) -> None:
    for file in version_files(find_version(mixed.tables.mixed_corpus)):
        pl.read_parquet(file, hive_partitioning=False, glob=False).with_columns(**damage).write_parquet(file)
    found = evaluate(mixed, dg.AssetCheckKey(MIXED_CORPUS, check))[check]
    assert not found.passed
    assert sentence in (found.description or "")


def test_before_the_first_publication_a_check_says_what_to_do(mixing: Project) -> None:
    found = evaluate(mixing, dg.AssetCheckKey(MIXED_CORPUS, "mixed_schema"))["mixed_schema"]
    assert not found.passed
    assert "materialize mixed" in (found.description or "")
