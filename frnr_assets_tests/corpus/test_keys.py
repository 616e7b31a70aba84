import unicodedata
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.partitions.utils.base import (
    raise_error_on_duplicate_partition_keys,
    raise_error_on_invalid_partition_key_substring,
)

from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.keys import MAX_KEY_BYTES, assign_keys, clip_key
from frnr_assets_tests.corpus.manifests import Disk

# What Dagster refuses in a partition key, and what separates keys in multi-partition keys, lists and ranges.
UNSAFE_IN_A_PARTITION_KEY = ["|", "[", "]", ",", "'", '"', "`", "\\", "*", "...", *map(chr, range(32)), "\x7f", "\x85"]
SET = "konvid"


def _names(*paths: str) -> list[tuple[str, str]]:
    return [(SET, path) for path in paths]


@pytest.mark.parametrize("unsafe", UNSAFE_IN_A_PARTITION_KEY, ids=ascii)
@pytest.mark.parametrize("template", ["{}clip", "cl{}ip", "clip{}", "{}{}"])
def test_a_strange_file_name_does_not_make_a_key_that_dagster_misreads(unsafe: str, template: str) -> None:
    key = clip_key(Path("clips") / f"{template.format(unsafe, unsafe)}.mp4")
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
        (" in spaces .mp4", "in spaces"),
    ],
)
def test_an_ordinary_file_name_is_recognized_in_its_key(name: str, key: str) -> None:
    assert clip_key(Path("/some/folder") / name) == key
    assert assign_keys(_names(f"folder/{name}", "other.mp4"), ()) == [key, "other"]


STRANGE = [
    *(f"{unsafe * 3}.mp4" for unsafe in UNSAFE_IN_A_PARTITION_KEY if unsafe != "\0"),
    " .mp4",
    "..mp4",
    "...mp4",
    "....",
    "x" * 255,
    "é" * 127,
    f"{'x' * 119}é.mp4",
    "\u2028.mp4",
    "~.mp4",
]


def test_any_file_name_makes_a_key_that_dagster_and_a_disk_take(tmp_path: Path) -> None:
    keys = assign_keys(_names(*STRANGE), ())
    raise_error_on_duplicate_partition_keys(keys)
    keys = list({*keys, *(assign_keys([name], ())[0] for name in _names(*STRANGE))})
    raise_error_on_invalid_partition_key_substring(keys)
    cells = dg.MultiPartitionsDefinition(
        {"clip": dg.StaticPartitionsDefinition(keys), "crf": dg.StaticPartitionsDefinition(["18"])}
    )
    found = [cells.get_partition_key_from_str(key) for key in cells.get_partition_keys()]
    assert sorted(key.keys_by_dimension["clip"] for key in found) == sorted(keys)
    for key in keys:
        assert 0 < len(key.encode()) <= MAX_KEY_BYTES
        assert key == key.strip()
        (tmp_path / key).touch()
    assert {path.name for path in tmp_path.iterdir()} == set(keys)


@pytest.mark.parametrize("stem", ["x" * MAX_KEY_BYTES, "é" * (MAX_KEY_BYTES // 2)])
def test_a_long_name_is_shortened_only_beyond_the_limit(stem: str) -> None:
    assert assign_keys(_names(f"{stem}.mp4"), ()) == [stem]
    (key,) = assign_keys(_names(f"{stem}x.mp4"), ())
    assert key.partition("~")[0] == stem[: len(key.partition("~")[0])]
    assert len(key) > MAX_KEY_BYTES // 3


def test_clips_of_equal_stem_are_told_apart_by_where_they_are() -> None:
    names = [*_names("a/clip.mp4", "b/clip.mp4", "clip.mkv"), ("live", "a/clip.mp4"), ("live", "other.mp4")]
    keys = assign_keys(names, ())
    assert keys[-1] == "other"
    assert len(set(keys)) == 5
    assert all(key.startswith("clip~") for key in keys[:-1])
    assert assign_keys(names[::-1], ()) == keys[::-1]


def test_a_later_clip_does_not_take_the_key_of_an_earlier_one() -> None:
    (key,) = assign_keys(_names("b/clip.mp4"), {"clip"})
    assert key.startswith("clip~")
    assert assign_keys(_names("b/clip.mp4", "new.mp4"), {"clip", "old"}) == [key, "new"]


def test_a_clip_that_is_called_like_the_key_of_another_does_not_share_it() -> None:
    twins = _names("a/clip.mp4", "b/clip.mp4")
    first, second = assign_keys(twins, ())
    for names in ([*twins, (SET, f"{first}.mp4")], [(SET, f"{first}.mp4"), *twins]):
        keys = assign_keys(names, ())
        assert len(set(keys)) == 3
        assert keys[names.index((SET, f"{first}.mp4"))] == first
        assert keys[names.index(twins[1])] == second
    (other,) = assign_keys(twins[:1], {first, "clip"})
    assert other != first
    assert other.startswith("clip~")


def test_very_many_clips_of_one_stem_have_keys_of_their_own() -> None:
    # Of 150,000 folders with a clip of one name, these two have hashes that begin alike.
    keys = assign_keys(_names("43879/video.mp4", "106302/video.mp4"), ())
    assert keys == ["video~deca0455", "video~deca0455f"]


def test_a_key_does_not_depend_on_the_machine() -> None:
    assert assign_keys(_names("a/clip.mp4", "b/clip.mp4"), ()) == ["clip~0588d88b", "clip~01f4e180"]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    disk = Disk(tmp_path)
    disk.clips("k/a.mp4", "k/b.mp4", "k/c.mp4")
    return disk


def _ingest(disk: Disk, *clips: str) -> None:
    disk.ingest(disk.jsonl(*(f"{clip}.mp4" for clip in clips)))


@pytest.fixture
def keys(disk: Disk) -> dict[str, str]:
    disk.clips("k/x/same.mp4", "k/y/same.mp4")
    _ingest(disk, "a", "x/same", "y/same", "b")
    keys = disk.keys()
    assert (keys["a.mp4"], keys["b.mp4"]) == ("a", "b")
    assert all(keys[f"{folder}/same.mp4"].startswith("same~") for folder in "xy")
    return keys


@pytest.mark.parametrize(
    "clips",
    [["b", "y/same", "x/same", "a"], ["c", "a", "x/same", "y/same", "b"], ["x/same", "b", "a"], ["c"]],
    ids=["reordered", "one added before", "some removed", "all removed"],
)
def test_rows_measured_under_a_key_stay_with_their_clip_when_the_manifest_is_edited(
    disk: Disk, keys: dict[str, str], clips: list[str]
) -> None:
    _ingest(disk, *clips)
    assert keys.items() <= disk.keys().items()
    _ingest(disk, "y/same", "b", "a", "c", "x/same")
    assert list(disk.listed()) == ["y/same.mp4", "b.mp4", "a.mp4", "c.mp4", "x/same.mp4"]
    assert disk.keys() == keys | {"c.mp4": "c"}


def test_rows_measured_under_a_key_stay_with_their_clip_when_the_dataset_is_moved(
    disk: Disk, keys: dict[str, str]
) -> None:
    (disk.root / "k").rename(disk.root / "moved")
    manifest = disk.root / "moved/manifest.jsonl"
    changes = disk.ingest(Dataset(name="k", manifest=manifest)).changes
    assert set(changes.values()) == {0}
    assert disk.keys() == keys
    assert all(Path(row["src"]).is_file() for row in disk.listed().values())


def test_rows_measured_under_a_key_stay_with_their_clip_when_another_of_its_name_comes(
    disk: Disk, keys: dict[str, str]
) -> None:
    disk.clips("k/0/a.mp4", "l/b.mp4")
    more = disk.jsonl("0/a.mp4", "x/same.mp4", "y/same.mp4", "b.mp4")
    disk.ingest(more, disk.jsonl("b.mp4", path="l/m.jsonl"))
    found = disk.tables.clips.read()
    assert dict(found.filter(found["dataset"] == "k").select("name", "clip").iter_rows()).items() > keys.items()
    new = found.filter(~found["clip"].is_in(list(keys.values())))
    assert sorted(key.split("~")[0] for key in new["clip"]) == ["a", "b"]
    assert found["clip"].is_unique().all()
