"""Clip keys: the names of the partitions."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Container, Sequence
from pathlib import PurePath

# Dagster separates the dimensions of a key by "|", lists and ranges of keys by commas, dots and brackets, and takes
# "*" for any text. With the marks of writing direction, a key would be shown as another.
_UNSAFE = re.compile(r"""[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069|\[\],"'`\\/*]|\.\.\.""")
# A key is part of file names, which may have 255 bytes.
MAX_KEY_BYTES = 120


def clip_key(source: PurePath) -> str:
    """Return the plain key of a clip: its file stem, with an underscore for whatever is unsafe in a partition key."""
    key = _UNSAFE.sub("_", source.stem.strip())
    # A range is written "first...last"; and "." and ".." would be other folders, for what is kept under the key.
    return key.rstrip(".") + "_" * (len(key) - len(key.rstrip(".")))


def source_key(source: PurePath) -> str:
    """Return a key that no other source has, for where no manifest tells which others there are."""
    return _hashed(clip_key(source), ("", str(source)), ())


def assign_keys(names: Sequence[tuple[str, str]], taken: Collection[str]) -> list[str]:
    """Return a key of its own for each clip: the plain one where that is free and short, else with a hash of its name.

    Args:
        names: dataset and path in it of each clip; together they are unique.
        taken: keys that belong to other clips.
    """
    plain = [clip_key(PurePath(path)) for _, path in names]
    count = Counter(plain)
    free = {key for key in plain if count[key] == 1 and key not in taken and 0 < len(key.encode()) <= MAX_KEY_BYTES}
    used = {*free, *taken}
    keys = []
    for key, name in zip(plain, names, strict=True):
        keys.append(key if key in free else _hashed(key, name, used))
        used.add(keys[-1])
    return keys


def _hashed(key: str, name: tuple[str, str], used: Container[str]) -> str:
    digest = hashlib.sha256(chr(0).join(name).encode()).hexdigest()
    # Many clips may share a stem, and a clip may be called like the key of another.
    for digits in range(8, len(digest) + 1):
        short = key.encode()[: MAX_KEY_BYTES - 1 - digits].decode(errors="ignore")
        hashed = f"{short}~{digest[:digits]}"
        if hashed not in used:
            break
    return hashed
