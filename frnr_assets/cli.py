"""The command `frnr`."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.export import SUFFIXES, export_version
from frnr_assets.corpus.load import CORPORA
from frnr_assets.corpus.locks import Busy
from frnr_assets.corpus.manifests.entries import manifest_files
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets.corpus.publish import CorpusInvalid, CorpusMissing, find_version
from frnr_assets.doctor import examine
from frnr_assets.extract import ENCODE_DIR, SCRATCH_DIR, extract, extras_of, failures_of, frames_of, tables_of
from frnr_assets.media.process import ToolError
from frnr_assets.settings import Settings, SettingsError, in_words, load_settings
from frnr_assets.words import harmless

_OK, _FAILED, _USAGE = 0, 1, 2

# Settings of the assets alone.
_NO_FLAGS = {"datasets", "fr_datasets", "automation", "download_threads", "download_failures_warn", "keep_versions"}
# Those that are lists: with commas in between, or given again and again where an element may have a comma.
_WITH_COMMAS = {"crf_sweep", "extra_features", "containers", "codecs"}
_REPEATED = {"extra_params", "vmaf_args", "allowed_roots"}
_RUNBOOK = {"scratch_dir": str(SCRATCH_DIR), "encode_dir": str(ENCODE_DIR)}


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status.

    Returns:
        0; 1 when some clips failed, or the command was interrupted or could not go on; 2 on wrong usage, which
        includes settings and manifests that cannot be used. argparse exits with 2 by itself.
    """
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except (SettingsError, ManifestError, ToolError, CorpusMissing) as error:
        _complain(str(error))
        return _USAGE
    except Busy as error:
        _complain(f"{error}: rows of this input are being made already; wait for that, or use another --data-root")
    except CorpusInvalid as error:
        _complain(str(error))
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        _complain("interrupted; what was done is kept, the same command goes on from there")
    return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="frnr",
        description="Full-reference rows from no-reference datasets. Every setting is a flag here and an entry of the "
        "same name in frnr.toml, in the folder that the command is run in; a flag goes before the file.",
        epilog="Exit status: 0; 1 when some clips failed or the command was interrupted; 2 on wrong usage.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_extract(commands)
    _add_export(commands)
    doctor = commands.add_parser(
        "doctor",
        help="check tools, encoders, models, disks and datasets, and say how to mend what is missing",
        description="Check the tools, encoders, models, disks and datasets of a configuration.",
    )
    _add_settings(doctor)
    doctor.set_defaults(run=_doctor)
    demo = commands.add_parser(
        "demo",
        help="make a few clips and take them through the whole graph of assets",
        description="Make a few clips and take them through the whole graph of assets.",
    )
    demo.add_argument("--folder", type=Path, default=Path("demo"), help="where everything goes (default: %(default)s)")
    demo.add_argument(
        "--instance-config",
        type=Path,
        default=Path("dagster.yaml"),
        help="Dagster's configuration (default: %(default)s)",
    )
    demo.set_defaults(run=_demo)
    return parser


def _add_extract(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "extract",
        help="make the rows of a dataset, without Dagster",
        description="Make the rows of all clips of a manifest and write them to one file. What is measured is kept at "
        "once, under extract in the data root, for every output of the same input; after an interruption, however "
        "hard, the same command goes on from there. Clips that failed are in a file beside the output, named "
        ".failures.jsonl, with the reasons.",
    )
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        help="the manifest: JSON Lines, CSV, or the folder of a KonViD-150k score drop; if a dataset of frnr.toml has "
        "it as its manifest, it is read as that declares",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help=f"the file of rows; its end, {' or '.join(SUFFIXES)}, is its format"
    )
    for name in ("clips_root", "format"):
        parser.add_argument(f"--{_dashed(name)}", help=Dataset.model_fields[name].description)
    parser.add_argument(
        "--mos-scale",
        type=_scale,
        metavar="LOWEST,HIGHEST",
        help=f"{Dataset.model_fields['mos_scale'].description} (default: 1,5)",
    )
    parser.add_argument(
        "--retry-quarantined",
        action="store_true",
        help="try clips again that could not be used, although their files have not changed",
    )
    _add_settings(parser)
    parser.set_defaults(run=_extract)


def _add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "export",
        help="write a published corpus to one file",
        description="Write the rows of a published corpus to one file, as they are: strict JSON, one object a line, or "
        "Parquet.",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help=f"the file of rows; its end, {' or '.join(SUFFIXES)}, is its format"
    )
    parser.add_argument("--corpus", choices=CORPORA, default=CORPORA[0], help="which corpus (default: %(default)s)")
    parser.add_argument("--version", metavar="NAME", help="a version that is kept (default: the current one)")
    _add_setting(parser, "data_root")
    parser.set_defaults(run=_export)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings", "each also an entry of frnr.toml")
    for name in Settings.model_fields:
        if name not in _NO_FLAGS:
            _add_setting(group, name)


def _add_setting(parser: argparse._ActionsContainer, name: str) -> None:
    parser.add_argument(f"--{_dashed(name)}", dest=f"setting_{name}", **_flag(name, Settings.model_fields[name]))


def _flag(name: str, setting: FieldInfo) -> dict[str, Any]:
    """Return how argparse takes a setting; what it is worth is checked with the rest of the settings."""
    default = _RUNBOOK.get(name, setting.default)
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    text = (setting.description or "").partition("; default:")[0] if name in _RUNBOOK else setting.description
    says_default = name not in _RUNBOOK and "default:" in (text or "")
    known = "" if says_default else f" (default: {'none' if shown in {None, ''} else shown})"
    help_text = f"{text}{known}".replace("%", "%%")
    if setting.annotation is bool:
        return {"action": argparse.BooleanOptionalAction, "help": help_text, "default": None}
    if name in _REPEATED:
        return {"action": "append", "metavar": "VALUE", "help": f"{help_text}; may be given several times"}
    if name in _WITH_COMMAS:
        return {"type": _list_of(int if name == "crf_sweep" else str), "metavar": "A,B,...", "help": help_text}
    choices = [value for kind in (setting.annotation, *get_args(setting.annotation)) for value in _literals(kind)]
    return {"metavar": f"{{{','.join(choices)}}}" if choices else "VALUE", "help": help_text}


def _literals(kind: object) -> tuple[str, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _list_of(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def parse(text: str) -> list[Any]:
        try:
            return [kind(part) for part in text.split(",") if part.strip()]
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 18,23,28") from error

    return parse


def _scale(text: str) -> tuple[float, float]:
    try:
        lowest, highest = map(float, text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers such as 1,5") from error
    return lowest, highest


def _settings(arguments: argparse.Namespace) -> Settings:
    given = {name: getattr(arguments, f"setting_{name}", None) for name in Settings.model_fields}
    return load_settings(Path.cwd(), {name: value for name, value in given.items() if value is not None})


def _dataset(arguments: argparse.Namespace, settings: Settings) -> Dataset:
    # Without "..", which would stand in every row.
    manifest = Path(os.path.abspath(arguments.input))  # noqa: PTH100 - resolve() would follow links as well
    if not manifest.exists():
        raise ManifestError(f"--input {arguments.input}: there is no such file")
    flags = {name: getattr(arguments, name) for name in ("clips_root", "format", "mos_scale")}
    given = {name: value for name, value in flags.items() if value is not None}
    if "clips_root" in given:
        given["clips_root"] = os.path.abspath(given["clips_root"])  # noqa: PTH100 - the same
    same = (dataset for dataset in settings.datasets if dataset.manifest.resolve() == manifest.resolve())
    declared = next(same, None)
    known = declared.model_dump() if declared else {"name": manifest.stem, "manifest": manifest}
    try:
        return Dataset.model_validate({**known, **given}).under(Path.cwd())
    except ValidationError as error:
        raise SettingsError(in_words(error)) from None


def _extract(arguments: argparse.Namespace) -> int:
    # Ended like with Ctrl-C, so that what was measured is written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _refuse_other_output(arguments.output)
    settings = _settings(arguments)
    dataset = _dataset(arguments, settings)
    output = arguments.output
    written = {path.resolve() for path in (output, failures_of(output), extras_of(output), frames_of(output))}
    if written & {manifest.resolve() for manifest, _ in manifest_files(dataset)}:
        raise SettingsError(f"--output {arguments.output}: it, or a file beside it, would be written over the input")
    tables = tables_of(dataset, settings)
    _require_writable("output", arguments.output.parent)
    _require_writable("data_root", settings.data_root)
    _require_writable("scratch_dir", tables.scratch)
    if settings.keep_encodes:
        _require_writable("encode_dir", tables.kept_encodes)
    done = extract(dataset, arguments.output, settings, retry_quarantined=arguments.retry_quarantined)
    _complain(
        f"{_counted(done.rows, 'row')} in {done.output}" if done.rows else f"no row; {done.output} was not written"
    )
    if done.rows and not done.rows_with_mos:
        _complain("no clip has a MOS: is its column called mos? Declare others as columns of [[datasets]] in frnr.toml")
    if done.failures:
        _complain(f"{_counted(done.failures, 'failure')}, with reasons, in {done.failures_file}")
    if done.set_aside:
        tried = _counted(done.set_aside, "clip")
        _complain(f"{tried} of them could not be used in an earlier run either; --retry-quarantined tries again")
    if done.damaged:
        first = ", ".join(done.damaged[:3]) + (" ..." if len(done.damaged) > 3 else "")
        _complain(f"{_counted(len(done.damaged), 'clip')} decoded with errors, which were concealed: {first}")
    if done.interrupted:
        raise KeyboardInterrupt
    return _FAILED if done.failures else _OK


def _export(arguments: argparse.Namespace) -> int:
    _refuse_other_output(arguments.output)
    corpora = _settings(arguments).data_root / "corpus"
    if arguments.output.resolve().is_relative_to(corpora.resolve()):
        raise SettingsError(f"--output {arguments.output}: what is published stays as it is; choose another folder")
    version = find_version(corpora / arguments.corpus, arguments.version)
    _require_writable("output", arguments.output.parent)
    rows = export_version(version, arguments.output)
    _complain(f"{_counted(rows, 'row')} of {arguments.corpus}, version {version.name}, in {arguments.output}")
    return _OK


def _refuse_other_output(output: Path) -> None:
    if output.suffix not in SUFFIXES:
        raise SettingsError(f"--output {output}: it can end in {' or '.join(SUFFIXES)}")
    if output.is_dir():
        raise SettingsError(f"--output {output}: it is a folder")


def _require_writable(name: str, folder: Path) -> None:
    """Find out now what would otherwise be found out after days.

    Raises:
        SettingsError: nothing can be written into the folder, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(f"{name}: {folder} cannot be written to ({error.strerror}); choose another") from error


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _doctor(arguments: argparse.Namespace) -> int:
    healthy = True
    for diagnosis in examine(_settings(arguments)):
        healthy &= diagnosis.works or not diagnosis.needed
        mark = "ok" if diagnosis.works else "MISSING" if diagnosis.needed else "not there"
        line = harmless(f"{mark:<10}{diagnosis.what:<24}{diagnosis.found}")
        print(line, flush=True)  # noqa: T201 - what was asked for
    return _OK if healthy else _FAILED


def _demo(arguments: argparse.Namespace) -> int:
    # Dagster takes a second to load, and only the demo needs it.
    from dagster._core.errors import DagsterExecutionInterruptedError  # noqa: PLC0415

    from frnr_assets.demo import run_demo  # noqa: PLC0415

    try:
        run_demo(arguments.folder, arguments.instance_config)
    except DagsterExecutionInterruptedError as error:
        raise KeyboardInterrupt from error
    return _OK


def _complain(line: str) -> None:
    print(harmless(f"frnr: {line}"), file=sys.stderr, flush=True)  # noqa: T201 - the command talks to a person at a terminal


if __name__ == "__main__":
    sys.exit(main())
