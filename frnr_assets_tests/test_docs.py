"""The pages: what they list is what there is, and their links lead somewhere."""

import re
from pathlib import Path
from typing import get_args

import polars as pl
import pyarrow as pa
import pytest
import yaml
from pydantic import BaseModel

from frnr_assets.adapter import CorpusOptions
from frnr_assets.assets.cells import CellsConfig
from frnr_assets.assets.corpus_report import ReportConfig
from frnr_assets.cli import main
from frnr_assets.corpus import schema
from frnr_assets.corpus.dataset import Columns, Dataset, FrDataset, ManifestFormat
from frnr_assets.corpus.manifests.entries import SPELLINGS
from frnr_assets.corpus.publish import file_metadata
from frnr_assets.definitions import build_definitions
from frnr_assets.maintenance import DownloadConfig, RemoveConfig
from frnr_assets.media.decode import KEPT_FILES
from frnr_assets.media.encoders import ENCODERS
from frnr_assets.media.vmaf import VmafBackend
from frnr_assets.report.contents import MOST_SHOWN_CLIPS
from frnr_assets.settings import Automation, Settings, load_settings
from frnr_assets.vocabulary import EXTRA_FEATURES
from frnr_assets_tests.corpus.rows import feature_row
from frnr_assets_tests.pages import CHECKOUT, DOCS, PAGES, Block, blocks, prose, rows_of, section
from tools.data_dictionary import PAGE as DICTIONARY
from tools.data_dictionary import with_tables

CONFIGURATION = DOCS / "configuration.md"


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("Settings", Settings),
        ("Each `[[datasets]]`", Dataset),
        ("`columns` of a dataset", Columns),
        ("Each `[[fr_datasets]]`", FrDataset),
        ("`[automation]`", Automation),
    ],
)
def test_every_setting_is_listed_with_its_default(heading: str, model: type[BaseModel]) -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\|", section(CONFIGURATION, heading), re.MULTILINE))
    assert set(listed) == set(model.model_fields)
    for name, field in model.model_fields.items():
        assert bool(listed[name]) is not field.is_required(), f"{name} has to be given, or has a default"
        if isinstance(field.default, str | int | float | tuple | Path) and field.default != ():
            shown = field.default if not isinstance(field.default, tuple) else list(field.default)
            assert listed[name].strip("`").replace('"', "'") == str(shown), name


@pytest.mark.parametrize(
    ("heading", "setting", "choices"),
    [
        ("Settings", "encoder", tuple(ENCODERS)),
        ("Settings", "extra_features", tuple(EXTRA_FEATURES)),
        ("Settings", "keep_reference", tuple(KEPT_FILES)),
        ("Settings", "vmaf_backend", get_args(VmafBackend)),
        ("Each `[[datasets]]`", "format", get_args(ManifestFormat)),
        *(("`columns` of a dataset", name, spellings) for name, spellings in SPELLINGS.items()),
    ],
)
def test_whatever_a_setting_can_be_is_named(heading: str, setting: str, choices: tuple[str, ...]) -> None:
    (line,) = re.findall(rf"^\| `{setting}` \|.*$", section(CONFIGURATION, heading), re.MULTILINE)
    assert [choice for choice in choices if f"`{choice}`" not in line] == []


def test_what_can_be_asked_of_a_run_is_listed_with_its_default() -> None:
    rows = rows_of(CONFIGURATION, "asset or job")
    listed = {(cells[1].strip("`"), cells[2].strip("`")) for cells in rows}
    known = {
        (name, str(field.default))
        for config in (CellsConfig, ReportConfig, DownloadConfig, RemoveConfig)
        for name, field in config.model_fields.items()
    }
    assert listed == known
    assert f"at most {MOST_SHOWN_CLIPS} |" in CONFIGURATION.read_text()


def test_datasets_are_configured_as_the_page_says(tmp_path: Path) -> None:
    text = "\n".join(block.text for block in blocks("toml") if block.page == CONFIGURATION.name)
    (tmp_path / "frnr.toml").write_text(text)
    settings = load_settings(tmp_path)
    names = [dataset.name for dataset in settings.datasets]
    assert names == ["konvid-150k", "konvid-1k", "live-vqc", "our-uploads"]
    assert [masters.name for masters in settings.fr_datasets] == ["netflix-public"]


@pytest.mark.parametrize("block", blocks("toml", "yaml"), ids=str)
def test_what_a_page_says_to_write_into_a_file_is_taken(tmp_path: Path, block: Block) -> None:
    if block.language == "yaml":
        assert list(yaml.safe_load_all(block.text))
        return
    (tmp_path / "frnr.toml").write_text(block.text)
    load_settings(tmp_path)


def test_everything_that_can_be_switched_on_is_listed() -> None:
    definitions = build_definitions(Settings())
    switches = [*(definitions.sensors or ()), *(definitions.schedules or ())]
    listed = {cells[0].strip("`") for cells in rows_of(DOCS / "operations.md", "automation")}
    assert listed == {switch.name for switch in switches}


def test_every_asset_is_listed(tmp_path: Path) -> None:
    masters = FrDataset(name="masters", rows=tmp_path / "rows.jsonl")
    definitions = build_definitions(Settings(fr_datasets=(masters,)))
    listed = {cells[0].strip("`") for cells in rows_of(DOCS / "concepts.md", "asset")}
    assert listed == {key.to_user_string() for key in definitions.resolve_all_asset_keys()}


def test_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = set(re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE))
    assert {cells[0].strip("`") for cells in rows_of(DOCS / "command.md", "command")} == {f"frnr {c}" for c in commands}
    assert commands


def test_every_option_of_the_adapter_is_listed() -> None:
    listed = {
        name for cells in rows_of(DOCS / "api.md", "`CorpusOptions`") for name in re.findall(r"`(\w+)`", cells[0])
    }
    assert listed == set(CorpusOptions.__dataclass_fields__)


def test_the_data_dictionary_says_what_the_schemas_say() -> None:
    page = DICTIONARY.read_text()
    assert with_tables(page) == page, "run make docs"
    tables = {name for name, value in vars(schema).items() if isinstance(value, pa.Schema)}
    assert set(re.findall(r"<!-- columns of (\w+)", page)) == tables, "a table without a section, or a section too many"
    assert "|  |" not in page, "a column without a meaning"


def test_the_data_dictionary_lists_what_the_files_say_of_a_corpus() -> None:
    (line,) = re.findall(r"^The files also carry metadata: (.*?)\.$", DICTIONARY.read_text(), re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(\w+)`", line)) == file_metadata(pl.DataFrame([feature_row()]), [18]).keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (page.parent / file).resolve() if file else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    made: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = sum(anchor == plain or re.fullmatch(rf"{re.escape(plain)}-\d+", anchor) is not None for anchor in made)
        made.add(f"{plain}-{number}" if number else plain)
    return made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_whatever_a_page_says_to_make_is_a_target(page: Path) -> None:
    targets = set(re.findall(r"^([\w.-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([\w-]+)", page.read_text()))
    assert named <= targets


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = {target for row in rows_of(CHECKOUT / "README.md", "page") for target in re.findall(r"\((\S+?)\)", row[0])}
    assert {page.relative_to(CHECKOUT).as_posix() for page in PAGES} - {"README.md"} <= listed
