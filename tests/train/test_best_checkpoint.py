"""Which evaluation becomes the checkpoint `best`."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

import being.train.trainer as trainer_module
from being.config import load
from being.train.trainer import END_TOLERANCE, Trainer


@pytest.mark.parametrize(
    "mouth, psnr, at_end, saved",
    [
        ("code", 30.1, False, True),
        ("code", 29.9, False, False),
        ("code", 30.0 - END_TOLERANCE / 2, True, True),
        ("code", 30.0 - 2 * END_TOLERANCE, True, False),
        ("audio", 30.0 - END_TOLERANCE / 2, True, False),
    ],
)
def test_the_end_of_the_schedule_counts_as_best_with_the_mouth_code(
    monkeypatch: pytest.MonkeyPatch, mouth: str, psnr: float, at_end: bool, saved: bool
) -> None:
    monkeypatch.setattr(trainer_module, "evaluate", lambda *_: {"psnr": psnr, "psnr_head": psnr})
    trainer = object.__new__(Trainer)
    trainer.config = load("quick", [f"model.mouth={mouth}"], environment={})
    trainer.model, trainer.run, trainer.plateau = MagicMock(), MagicMock(), MagicMock()
    trainer.model.gaussians = []
    trainer.plateau.reached.return_value = False
    trainer.clip, trainer.split, trainer.best = None, SimpleNamespace(validation=None), 30.0
    trainer._evaluate("fine", 100, {}, at_end)
    assert trainer.run.save.called == saved
