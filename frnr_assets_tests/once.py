"""What is costly to make, and only read, is made by one of the processes that test and used by all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from frnr_assets.corpus.locks import locked


def made_once(request: pytest.FixtureRequest, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that is filled by the first process that asks for it.

    Args:
        request: that of the fixture.
        name: of the folder.
        make: fills it; the folder is there and empty.
    """
    factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    base = factory.getbasetemp()
    # Each process of xdist has a folder of its own in that of the whole run.
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / name
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            folder.mkdir()
            make(folder)
            folder.with_suffix(".made").touch()
        assert folder.with_suffix(".made").exists(), f"making {name} failed before"
    return folder
