import unicodedata
from pathlib import Path

import pytest

from frnr_assets.corpus.keys import clip_key

# What Dagster refuses in a partition key, and what separates keys in multi-partition keys, lists and ranges.
UNSAFE_IN_A_PARTITION_KEY = ["|", "[", "]", ",", "'", '"', "`", "\\", "...", *map(chr, range(32)), "\x7f"]


@pytest.mark.parametrize("unsafe", UNSAFE_IN_A_PARTITION_KEY, ids=ascii)
@pytest.mark.parametrize("template", ["{}clip", "cl{}ip", "clip{}", "{}{}"])
def test_a_strange_file_name_does_not_make_a_key_that_dagster_misreads(unsafe: str, template: str) -> None:
    key = clip_key(Path("clips") / f"{template.format(unsafe, unsafe)}.mp4")
    assert key
    assert not any(substring in key for substring in UNSAFE_IN_A_PARTITION_KEY)
    assert not any(unicodedata.category(character) == "Cc" for character in key)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("7340052218.mp4", "7340052218"),
        ("orig_3288_540p.5s.mp4", "orig_3288_540p.5s"),
        ("Größe 1-é.mkv", "Größe 1-é"),
        ("no_extension", "no_extension"),
        (".hidden", ".hidden"),
    ],
)
def test_an_ordinary_file_name_is_recognized_in_its_key(name: str, key: str) -> None:
    assert clip_key(Path("/some/folder") / name) == key
