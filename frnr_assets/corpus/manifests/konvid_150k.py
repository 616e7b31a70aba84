"""The KonViD-150k score drop: a folder with the score files of sets A and B, and their clips, one or both."""

from pathlib import Path

from frnr_assets.corpus.manifests.records import ManifestError

# The score file of each set, and the folder that its clips are extracted to.
SETS = {"k150ka_scores.csv": "k150ka_extracted", "k150kb_scores.csv": "k150kb_extracted"}


def is_score_drop(folder: Path) -> bool:
    """Tell whether a folder holds some score file of KonViD-150k."""
    return any((folder / scores).is_file() for scores in SETS)


def score_files(folder: Path, clips_root: Path) -> list[tuple[Path, Path]]:
    """Return the score files of a drop, each with the folder of its clips, which is in ``clips_root``.

    Raises:
        ManifestError: there is none.
    """
    found = [(folder / scores, clips_root / clips) for scores, clips in SETS.items() if (folder / scores).is_file()]
    if not found:
        raise ManifestError(f"{folder}: neither {' nor '.join(SETS)} is in this folder")
    return found
