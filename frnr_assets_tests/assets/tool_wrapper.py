"""An ffmpeg that counts its encodes and can be told to fail, to hang or to go away, around the real one."""

from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """\
#!/bin/sh
# Sources come as descriptors: their paths are put before the arguments.
said="$(for number in /proc/$$/fd/*; do readlink "$number"; done | tr '\n' ' ') $*"
case "$*" in *" -crf "*) echo "$said" >> {folder}/encodes.log ;; esac
if test -e {folder}/fail && echo "$said" | grep -q -e "$(cat {folder}/fail)"; then
    echo "[error] told to fail" >&2
    exit 1
fi
if test -e {folder}/hang && echo "$said" | grep -q -e "$(cat {folder}/hang)"; then exec sleep 600; fi
if test -e {folder}/vanish && echo "$said" | grep -q -e "$(cat {folder}/vanish)"; then rm -f "$0"; fi
exec {ffmpeg} "$@"
"""


@dataclass(frozen=True)
class ToolWrapper:
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "ffmpeg"

    @property
    def encodes(self) -> int:
        log = self.folder / "encodes.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def fail(self, pattern: str | None) -> None:
        """Make commands that have the pattern in them fail; None for all to work again."""
        self._tell("fail", pattern)

    def hang(self, pattern: str | None) -> None:
        """Make commands that have the pattern in them never end; None for all to work again."""
        self._tell("hang", pattern)

    def vanish(self, pattern: str) -> None:
        """Have it gone after the first command that has the pattern in it."""
        self._tell("vanish", pattern)

    def _tell(self, what: str, pattern: str | None) -> None:
        if pattern is None:
            (self.folder / what).unlink()
        else:
            (self.folder / what).write_text(f"{pattern}\n")


def wrap(ffmpeg: Path, folder: Path) -> ToolWrapper:
    folder.mkdir(parents=True)
    wrapper = ToolWrapper(folder)
    wrapper.path.write_text(_SCRIPT.format(folder=folder, ffmpeg=ffmpeg))
    wrapper.path.chmod(0o755)
    return wrapper


def processes_of(folder: Path) -> list[int]:
    """Return the running processes that have a file of this folder on their command line, or hang for it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            working_folder = (process / "cwd").readlink()
        except OSError:
            continue
        starting = ("sleep 600", "prlimit", "setpriv", "unshare")
        is_tool = command.startswith(starting) or "ffmpeg" in command.split(" ")[0]
        if is_tool and (str(folder) in command or working_folder.is_relative_to(folder)):
            found.append(int(process.name))
    return found
