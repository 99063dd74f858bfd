"""Checks of a run's JSON files: the record, the state of a checkpoint, the lines of its metrics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from being.errors import InputRejected
from being.names import is_subject_name
from being.reading.content import Unreadable
from being.reading.structured import parse_json

STAGES = ("coarse", "fine")  # in their order, which is also that of the alphabet
STEPS_MAX = 2**31 - 1
PATH_MAX = 4096  # characters


def check_run_record(file: Path, record: dict[str, Any]) -> None:
    """Raise InputRejected unless `run.json` names a subject and a dataset."""
    dataset = record.get("dataset")
    faults = (
        (not isinstance(dataset, str) or not dataset, "it names no dataset"),
        (isinstance(dataset, str) and _is_no_path(dataset), "its dataset is no path"),
        (not is_subject_name(record.get("name", "run")), "its name cannot be the name of a folder"),
        (not isinstance(record.get("config", ""), str), "its config is no text"),
        (not isinstance(record.get("wandb", ""), str), "its wandb is no text"),
        (not _is_number_or_none(record.get("best")), "its best is no number"),
    )
    for wrong, why in faults:
        if wrong:
            raise InputRejected(f"{file} is incomplete", why, "Train again")


def check_state(folder: Path, state: dict[str, Any]) -> None:
    """Raise InputRejected unless a checkpoint's `state.json` holds what training continues from."""
    plateau = state.get("plateau")
    faults = (
        (state.get("stage") not in STAGES, "stage"),
        (not _is_step(state.get("step")), "step"),
        (not _is_step(state.get("audio_width")) or not state["audio_width"], "audio_width"),
        (not _is_number_or_none(state.get("best", 0.0)) or state.get("best") is None, "best"),
        (plateau is not None and not _is_plateau(plateau), "plateau"),
    )
    wrong = [name for fault, name in faults if fault]
    if wrong:
        raise InputRejected(
            f"{folder / 'state.json'} does not describe a checkpoint",
            f"missing or wrong: {', '.join(wrong)}",
            "Remove the checkpoint, or train again with --fresh",
        )


def metrics_position(line: str) -> tuple[str, int] | None:
    """Stage and step of a line of metrics.jsonl; None for one that is torn or no metrics."""
    try:
        metrics = parse_json(line)
    except Unreadable:
        return None
    if not isinstance(metrics, dict):
        return None
    stage, step = metrics.get("stage"), metrics.get("step")
    if stage not in STAGES or not isinstance(step, int) or not _is_step(step):
        return None
    return str(stage), step


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= STEPS_MAX


def _is_number_or_none(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) and abs(value) <= STEPS_MAX or not math.isnan(value)


def _is_plateau(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"best", "waited", "since"} <= value.keys()
        and _is_number_or_none(value.get("best"))
        and _is_step(value.get("waited"))
        and (value.get("since") is None or _is_step(value.get("since")))
    )


def _is_no_path(text: str) -> bool:
    return "\0" in text or len(text) > PATH_MAX or any("\ud800" <= c < "\ue000" for c in text)
