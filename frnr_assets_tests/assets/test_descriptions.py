"""What assets say of themselves, as the UI renders it."""

import re
from pathlib import Path

import pytest

from frnr_assets.assets.descriptions import rounded, table_schema
from frnr_assets.corpus.dataset import FrDataset
from frnr_assets.corpus.schema import ROW_SCHEMA
from frnr_assets.definitions import build_definitions
from frnr_assets.settings import Settings

CHECKOUT = Path(__file__).parents[2]


def test_no_word_of_a_column_is_taken_for_html_and_lost() -> None:
    columns = {column.name: column for column in table_schema(ROW_SCHEMA).columns}
    assert r"sample\_\<N\>s" in (columns["clip_mode"].description or "")
    assert columns["extra_params"].type == "list of string"


def test_every_asset_names_a_page_that_is_there() -> None:
    masters = FrDataset(name="masters", rows=Path("rows.jsonl"), licence="CC0")
    assets = build_definitions(Settings(fr_datasets=(masters,))).resolve_all_asset_specs()
    pages = {
        spec.key.to_user_string(): re.findall(r"Explained in\*\* `(.*)`$", spec.description or "") for spec in assets
    }
    assert pages
    assert [asset for asset, found in pages.items() if not found or not (CHECKOUT / found[0]).is_file()] == []


@pytest.mark.parametrize(("value", "shown"), [(80.24400000000001, 80.244), (94.8346785, 94.8347), (0.0, 0.0)])
def test_a_number_is_shown_without_the_noise_of_its_last_digits(value: float, shown: float) -> None:
    assert rounded(value) == shown
