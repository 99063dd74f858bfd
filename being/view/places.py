"""Which folder a view shows, and where its files go."""

from __future__ import annotations

from pathlib import Path

from being.errors import InputRejected, UsageError
from being.paths import check_folder, home, newest_folder, real_path, user_path

WHAT = "a run, a dataset or an avatar"
FIX = "Give the folder of a run, a dataset or an avatar bundle; being list shows them"


def find_source(path: Path | None) -> tuple[str, Path]:
    """Kind ("avatar" or "dataset") and folder of what is shown.

    path: None for the most recent finished run, and without one for the most recent dataset. A run
    counts as its avatar. Raises InputRejected for another folder, UsageError where there is
    nothing.
    """
    if path is None:
        run = newest_folder(home() / "runs", "avatar/manifest.json")
        if run is not None:
            return "avatar", run
        dataset = newest_folder(home() / "data", "dataset.json")
        if dataset is not None:
            return "dataset", dataset
        raise UsageError(
            f"there is nothing to show under {home().absolute()}",
            "it has no finished run and no dataset",
            "Make a dataset with: being preprocess VIDEO",
        )
    path = user_path(path)
    check_folder(path, WHAT, FIX)
    if (path / "dataset.json").is_file():
        return "dataset", path
    if (path / "run.json").is_file() or _has_manifest(path) or _has_manifest(path / "avatar"):
        return "avatar", path
    raise InputRejected(
        f"{path} is not {WHAT}", "it has no dataset.json, run.json or manifest.json", FIX
    )


def default_folder(kind: str, folder: Path) -> Path:
    """Where files go: into the run or dataset; of a bundle alone, into the current folder."""
    if kind == "dataset" or (folder / "run.json").is_file():
        return folder / "view"
    run = real_path(folder).parent
    if (run / "run.json").is_file():
        return run / "view"
    return Path(f"{real_path(folder).name}-view")


def _has_manifest(folder: Path) -> bool:
    return (folder / "manifest.json").is_file()
