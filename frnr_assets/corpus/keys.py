"""Clip keys: the names of the partitions."""

import re
from pathlib import Path

# Dagster separates the dimensions of a key by "|" and lists and ranges of keys by commas, dots and brackets.
_UNSAFE = re.compile(r"""[\x00-\x1f\x7f|\[\],"'`\\/]|\.\.\.""")


def clip_key(source: Path) -> str:
    """Return the key of a clip: its file stem, with an underscore for whatever is unsafe in a partition key."""
    key = _UNSAFE.sub("_", source.stem)
    # These two would be another folder, for what is kept under the key.
    return "_" * len(key) if key in {".", ".."} else key
