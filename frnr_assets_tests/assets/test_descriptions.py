"""What assets say of themselves, as the UI renders it."""

from pathlib import Path

import pytest

from frnr_assets.assets.descriptions import documented_in, rounded, table_schema
from frnr_assets.corpus.schema import ROW_SCHEMA


def test_no_word_of_a_column_is_taken_for_html_and_lost() -> None:
    columns = {column.name: column for column in table_schema(ROW_SCHEMA).columns}
    assert r"sample\_\<N\>s" in (columns["clip_mode"].description or "")
    assert columns["extra_params"].type == "list of string"


def test_an_asset_leads_to_a_page_that_is_there() -> None:
    for page in ("docs/command.md", "docs/no_such_page.md"):
        assert Path(str(documented_in(page)["documentation"].value)).is_file()


@pytest.mark.parametrize(("value", "shown"), [(80.24400000000001, 80.244), (94.8346785, 94.8347), (0.0, 0.0)])
def test_a_number_is_shown_without_the_noise_of_its_last_digits(value: float, shown: float) -> None:
    assert rounded(value) == shown
