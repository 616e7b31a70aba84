"""A manifest and clips that were named to harm whoever looks at a terminal."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from frnr_assets.cli import main
from frnr_assets_tests import hostile
from frnr_assets_tests.conftest import MakeClip
from frnr_assets_tests.extraction import FRNR, json_lines


def on_a_terminal(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the command on a terminal of its own, and return its status and all that the terminal was sent."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [*FRNR, *arguments], cwd=folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        sent = b""
        try:
            while chunk := os.read(ours, 1 << 16):
                sent += chunk
        except OSError:
            # The system's way to say that nobody has the other end any more.
            pass
        finally:
            os.close(ours)
    return process.returncode, sent.decode()


def test_extracting_hostile_clips_clears_no_screen_and_their_rows_and_failures_can_be_looked_at(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_ENVIRONMENT", "SECRET")
    whole = make_clip(tmp_path / "whole.mp4").rename(tmp_path / f"{hostile.NAME}.mp4")
    broken = tmp_path / f"broken{hostile.NAME}{hostile.REVERSED}.mp4"
    broken.write_bytes(whole.read_bytes()[:600])
    entries = [
        {"src": whole.name, "mos": 3, hostile.TEXT: hostile.TEXT},
        {"src": broken.name, "mos": 2},
        {"src": f"{hostile.TEXT}.mp4"},
        {"src": "rated.mp4", "mos": hostile.TEXT},
        {"src": "far.mp4", "url": f"https://user:SECRET@host/{hostile.TEXT}?sig=SECRET"},
    ]
    lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    (tmp_path / "manifest.jsonl").write_text("\n".join([*lines, hostile.TEXT]), newline="\n")
    flags = ("--input", "manifest.jsonl", "--output", "rows.jsonl", "--crf-sweep", "38", "--cores", "2")
    status, sent = on_a_terminal(tmp_path, "extract", *flags)
    assert status == 1, sent
    assert "frnr: 1 row in rows.jsonl" in sent
    assert "frnr: 5 failures" in sent
    assert set(hostile.acts(sent)) <= {"\r"}, "the bar's way back to the start of its line"
    assert "SECRET" not in sent

    for name in ("rows.jsonl", "rows.failures.jsonl"):
        written = (tmp_path / name).read_bytes().decode()
        assert hostile.acts(written) == [], "somebody will print the file"
        assert "SECRET" not in written
    assert [row["src"] for row in json_lines(tmp_path / "rows.jsonl")] == [str(whole)], "the name itself is kept"
    reasons = [failure["reason"] for failure in json_lines(tmp_path / "rows.failures.jsonl")]
    assert [hostile.acts(reason) for reason in reasons] == [[]] * 5, "whoever reads the file prints them"


@pytest.mark.parametrize(
    "files",
    [
        {"manifest.csv": f"{hostile.TEXT},mos\n1,2\n"},
        {"manifest.csv": f"src,mos\n{hostile.TEXT},2\n"},
        {"manifest.csv": "src\na.mp4\n", "frnr.toml": f'"{json.dumps(hostile.TEXT)[1:-1]}" = 1'},
        {"manifest.csv": "src\na.mp4\n", "frnr.toml": f"encoder = {json.dumps(hostile.TEXT)}"},
    ],
    ids=["column", "path", "setting", "value"],
)
def test_what_is_wrong_with_a_hostile_manifest_is_one_line_that_does_nothing(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    assert main(["extract", "--input", "manifest.csv", "--output", "rows.jsonl"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("frnr: ")
    assert hostile.acts(line) == []


def test_so_is_what_the_doctor_says_of_a_hostile_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = json.dumps(hostile.TEXT)
    (tmp_path / "frnr.toml").write_text(f"ffmpeg_path = {named}\n[[datasets]]\nname = {named}\nmanifest = {named}\n")
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert said.count(r"\x1b[2J") >= 2, "both are named, and can be read"
    assert hostile.acts(said) == []
