"""What the run's log says of a batch while it runs, and of what failed."""

import pytest

from frnr_assets.assets.progress import Progress, failure


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("frnr_assets.assets.progress.time.monotonic", lambda: now[0])
    return now


def test_a_batch_says_where_it_is_at_steady_intervals_even_when_nothing_ends(clock: list[float]) -> None:
    lines: list[str] = []
    progress = Progress("cells", 100, lines.append, _started=0.0, _told=0.0)
    for second in range(1, 61):
        clock[0] = float(second)
        progress.tick()
        if second == 15:
            for _ in range(30):
                progress.count("done")
            progress.count("failed")
            progress.count("reused", 9)
    assert len(lines) == 6
    assert lines[0] == "0 of 100 cells: none yet"
    assert lines[1] == "40 of 100 cells: 30 done, 1 failed, 9 reused; 1.55/s, about 0:00:39 left"


def test_the_message_of_a_failed_batch_names_the_first_and_counts_the_rest() -> None:
    failed = failure("cells", 500, {f"clip{i}|18": f"reason {i}" for i in range(7)})
    assert failed.description == (
        "7 of 500 cells failed; the others are recorded.\n"
        "clip0|18: reason 0\nclip1|18: reason 1\nclip2|18: reason 2\n"
        "and 4 more, each with its command in the log"
    )
