"""The stages of a subject: their commands, what they make, and the record of what is done.

The record of a subject, `farm/MANIFEST/SUBJECT.json` under the home, holds for each stage a key
(a digest of everything that its result depends on) and its result. A stage with another key, or
whose result has gone, is not done. The key is written before a stage begins, so that a result whose
stage ended just before its record was written is found.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from being.config import Config, load
from being.config.files import resolve
from being.deploy.farm_manifest import Subject
from being.errors import InputRejected
from being.files import write_json
from being.preprocess.workspace import sha256
from being.reading.structured import read_json
from being.runs.run_directory import Run

STAGES = ("preprocess", "train", "render")
FARM_FOLDER = "farm"
VERSION = 1  # of the record


@dataclass(frozen=True)
class Place:
    """Where a farm works. All machines of a cluster see both folders under the same paths."""

    home: Path  # data/ and runs/
    state: Path  # records and logs of the subjects

    @classmethod
    def of(cls, home: Path, manifest: Path) -> Place:
        """The place of the farm of a manifest."""
        home = home.absolute()
        return cls(home, home / FARM_FOLDER / manifest.stem)

    def record_file(self, subject: str) -> Path:
        """The record of a subject."""
        return self.state / f"{subject}.json"

    def log_file(self, subject: str) -> Path:
        """What the stages of a subject print."""
        return self.state / f"{subject}.log"

    def dataset(self, subject: str) -> Path:
        """The dataset of a subject."""
        return self.home / "data" / subject


class Record:
    """What is done for a subject."""

    def __init__(self, file: Path):
        self._file = file
        self._stages: dict[str, dict[str, str]] = {}
        if file.exists():
            try:
                tree = read_json(file)
            except InputRejected:
                return  # a damaged record: results are looked for anew
            if tree.get("version") == VERSION and isinstance(tree.get("stages"), dict):
                self._stages = {
                    stage: entry
                    for stage, entry in tree["stages"].items()
                    if isinstance(entry, dict) and all(isinstance(v, str) for v in entry.values())
                }

    def key(self, stage: str) -> str:
        """The key of the stage that was begun last; empty: none was."""
        return self._stages.get(stage, {}).get("key", "")

    def result(self, stage: str, key: str) -> str:
        """The result of the stage with this key; empty: it is not done."""
        return self._stages.get(stage, {}).get("result", "") if self.key(stage) == key else ""

    def begin(self, stage: str, key: str) -> None:
        """Note that a stage begins."""
        if self.key(stage) != key:
            self._write(stage, {"key": key})

    def finish(self, stage: str, key: str, result: str) -> None:
        """Note what a stage has made."""
        self._write(stage, {"key": key, "result": result})

    def _write(self, stage: str, entry: dict[str, str]) -> None:
        self._stages[stage] = entry
        write_json(self._file, {"version": VERSION, "stages": self._stages})


class SubjectStages:
    """The stages of one subject at a place."""

    def __init__(self, subject: Subject, place: Place):
        self.subject, self.place = subject, place
        self._clips: tuple[str, ...] | None = None

    def clips(self) -> tuple[str, ...]:
        """sha256 of each clip. Raises OSError."""
        if self._clips is None:
            self._clips = tuple(sha256(clip) for clip in self.subject.video)
        return self._clips

    def key(self, stage: str) -> str:
        """The digest of everything that the result of a stage depends on. Raises OSError."""
        s = self.subject
        parts: list[Any]
        if stage == "preprocess":
            extra = [sha256(file) if file else None for file in (s.au, s.audio)]
            encoder = s.encoder or self._config().data.encoder
            parts = [*self.clips(), *extra, s.size, s.tight, s.parser, encoder, s.latency]
            parts.append((s.consent or "").strip())
        elif stage == "train":
            parts = [self.key("preprocess"), self._config().to_dict(), s.device]
        else:
            speech = sha256(s.speech) if s.speech else None
            parts = [self.key("train"), s.text, s.voice, speech]
        text = json.dumps([VERSION, stage, parts], default=list)
        return hashlib.sha256(text.encode()).hexdigest()

    def conflict(self) -> str:
        """Why the dataset that stands where the subject's belongs cannot be used; empty: it can,
        or there is none.
        """
        folder = self.place.dataset(self.subject.name)
        if not (folder / "dataset.json").is_file():
            return ""
        if self._made_from() != self.clips():
            return f"{folder} was made of another video"
        begun = Record(self.place.record_file(self.subject.name)).key("preprocess")
        if begun and begun != self.key("preprocess"):
            return f"{folder} was made with other settings"
        return ""

    def result(self, stage: str) -> str:
        """What a stage has made, a path; empty where it is not done."""
        record = Record(self.place.record_file(self.subject.name))
        key = self.key(stage)
        known = record.result(stage, key)
        if known and _whole(stage, Path(known)):
            return known
        begun = record.key(stage)
        if stage == "preprocess":
            # A dataset of the same clips that `being preprocess` made is as good.
            folder = self.place.dataset(self.subject.name)
            ours = begun in ("", key) and _whole(stage, folder)
            return str(folder) if ours and self._made_from() == self.clips() else ""
        if begun != key:
            return ""
        if stage == "train":
            return self._finished_run()
        video = self.video()
        return str(video) if video is not None and video.is_file() else ""

    def finish(self, stage: str, result: str) -> None:
        """Note what a stage has made."""
        Record(self.place.record_file(self.subject.name)).finish(stage, self.key(stage), result)

    def begin(self, stage: str) -> None:
        """Note that a stage begins."""
        Record(self.place.record_file(self.subject.name)).begin(stage, self.key(stage))

    def run(self) -> Path:
        """The folder of the trained run. Raises InputRejected where there is none."""
        found = self.result("train")
        if not found:
            raise InputRejected(
                f"the run of {self.subject.name} has gone", fix="Call the farm again: it is trained"
            )
        return Path(found)

    def video(self) -> Path | None:
        """The rendered video; None before the training."""
        run = self.result("train")
        return Path(run) / "videos" / f"{self.subject.name}.mp4" if run else None

    def command(self, stage: str) -> list[str]:
        """The words after `being` that do a stage."""
        s = self.subject
        dataset = str(self.place.dataset(s.name))
        config = ["--config", s.config_name, *(w for value in s.override for w in ("-o", value))]
        if stage == "preprocess":
            words = ["preprocess", *map(str, s.video), "--name", s.name, "--out", dataset, *config]
            for flag in ("size", "parser", "au", "audio", "encoder", "latency", "consent"):
                if getattr(s, flag) is not None:
                    words += [f"--{flag}", str(getattr(s, flag))]
            return [*words, "--tight"] if s.tight else words
        if stage == "train":
            return ["train", dataset, *config, "--device", s.device]
        run, video = self.run(), self.video()
        words = ["render", str(run)]
        if s.text is not None:
            words = ["tts-video", str(run), "--text", s.text]
            words += ["--voice", s.voice] if s.voice else []
        elif s.speech is not None:
            words += ["--audio", str(s.speech)]
        return [*words, "--out", str(video), "--force", "--device", s.device]

    def result_of(self, stage: str, answer: dict[str, Any]) -> str:
        """The path of what a command made, from its JSON answer."""
        return str(answer[{"preprocess": "dataset", "train": "run", "render": "video"}[stage]])

    def _config(self) -> Config:
        """The config of the training."""
        return load(resolve(self.subject.config_name), list(self.subject.override))

    def _made_from(self) -> tuple[str, ...]:
        """sha256 of each clip that the dataset was made of; empty where it is not known."""
        try:
            manifest = read_json(self.place.dataset(self.subject.name) / "dataset.json")
        except InputRejected:
            return ()
        source = manifest.get("source")
        if not isinstance(source, dict):
            return ()
        clips = source.get("clips")
        parts = clips if isinstance(clips, list) and clips else [source]
        return tuple(str(part.get("sha256")) for part in parts if isinstance(part, dict))

    def _finished_run(self) -> str:
        """The newest finished run of this dataset and config; empty where there is none."""
        wanted = self._config().to_dict()
        dataset = self.place.dataset(self.subject.name).resolve()
        folder = self.place.home / "runs" / self.subject.name
        for path in sorted(folder.glob("*"), reverse=True):
            try:
                run = Run.open(path)
                if not run.record.get("finished") or run.config.to_dict() != wanted:
                    continue
                if run.dataset == dataset:
                    return str(path)
            except (InputRejected, OSError):
                continue
        return ""


def _whole(stage: str, result: Path) -> bool:
    """Whether the result of a stage is there."""
    if stage == "preprocess":
        return (result / "dataset.json").is_file()
    if stage == "train":
        return (result / "avatar" / "manifest.json").is_file()
    return result.is_file()
