"""`preprocess_video`: from one or several videos of a speaking person to a dataset folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from being.console import Progress
from being.data.consent import Consent
from being.data.source_video import keep_source
from being.errors import BeingError, ExitCode, InputRejected, UsageError
from being.files import write_json
from being.names import check_subject_name
from being.paths import check_not_input, user_path
from being.preprocess.clips import JoinedClips, check_clips, clips_key, join_clips
from being.preprocess.inspection.clip_parts import ClipPart
from being.preprocess.inspection.picture import PICTURE_SIDE, probe_clip
from being.preprocess.manifest import build_manifest
from being.preprocess.report import write_report
from being.preprocess.speech_features import DEFAULT_ENCODER, FeatureChoice, choose_features
from being.preprocess.step_graph import StopFlag, run_steps
from being.preprocess.steps import STEPS, Settings, StepContext, check_settings
from being.preprocess.workspace import WORK_FOLDER, Workspace, check_free, sha256

RESUME = "The same command goes on from there"


def preprocess_video(
    video: Path | Sequence[Path],
    out: Path,
    *,
    name: str | None = None,
    size: int | None = None,
    tight: bool = False,
    parser: str | None = None,
    au: Path | None = None,
    audio: Path | None = None,
    encoder: str | None = None,
    latency: str | None = None,
    consent: str | Consent | Callable[[], Consent] | None = None,
    force: bool = False,
    progress: type[Progress] = Progress,
) -> Path:
    """The path of a dataset made from a video of one speaking person.

    video: any file with a picture and audio that PyAV decodes, or several of one person in one
    framing, which are joined in this order (`check_clips`, `join_videos`). out: the dataset's
    directory; it appears under this name only when complete. name: by default the directory's.
    size: largest side of the pictures, px (512); a picture that is not square is cropped to a
    square around the head. tight: that square holds little more than the head. parser: name of the
    face parser (`load_parser`). au: OpenFace's csv of this video, used instead of our own action
    units. audio: a separate recording of the voice, aligned to the video's audio and used instead
    of it. encoder, latency: speech features besides the default ones (`choose_features`). consent:
    whose face it is and how they agreed, or a function that asks.
    force: replace a dataset that exists already. progress: shows each step.

    A run that was killed, interrupted or failed leaves the hidden folder `.NAME.part` beside
    `out`; the next run on the same video resumes after the finished steps, and makes the same
    files. Raises InputRejected (the clip cannot be used; within seconds where its inspection finds
    this), BeingError (cannot write, the output exists, another process works there, interrupted),
    UsageError (the video lies in the output), EnvironmentFault (a pretrained file is missing and
    cannot be fetched).
    """
    videos = [user_path(path) for path in ([video] if isinstance(video, str | Path) else video)]
    out = user_path(out).absolute()
    name = out.name if name is None else name

    # What can be refused before any long work.
    check_subject_name(name)
    audio = user_path(audio) if audio else None
    digests = _checked_clips(videos, audio, au)  # first: the settings may fetch a parser
    check_not_input(out, [*videos, au, audio])
    check_free(out, force)
    settings = Settings(
        size or PICTURE_SIDE,
        tight,
        parser,
        user_path(au) if au else None,
        audio,
        _choose_features(encoder, latency, videos[0].parent),
    )
    check_settings(settings)
    record = _consent_record(consent)

    with Workspace(out, force) as workspace:
        joined: JoinedClips | None = None
        try:
            workspace.resume(clips_key(digests) if len(videos) > 1 else digests[0])
            if len(videos) > 1:
                with progress("joining", None, "frames") as shown:
                    work = workspace.folder / WORK_FOLDER
                    joined = join_clips(videos, digests, work, shown.advance)
            source, digest = videos[0], digests[0]
            parts: tuple[ClipPart, ...] = ()
            if joined is not None:
                source, digest, parts = joined.video, joined.sha256, joined.clips
            stop = StopFlag()
            context = StepContext(source, workspace.folder, settings, stop, parts)
            finished = run_steps(STEPS, context, workspace, stop, progress)

            # Of a joined video there is no other copy.
            keep_source(source, workspace.folder, context.record.frames, always=bool(parts))
            manifest = build_manifest(context, name, digest, finished, record)
            write_json(workspace.folder / "dataset.json", manifest)
            times = {step: result.seconds for step, result in finished.items()}
            write_json(workspace.folder / "times.json", times)
            with progress("report"):
                write_report(workspace.folder)
            workspace.publish()
        except (InputRejected, UsageError) as error:
            if joined is None:
                raise
            raise joined.named(error) from error
        except OSError as error:
            fix = "Free some space on the disk or choose another folder with --out"
            raise BeingError(
                f"cannot write {out}", str(error), _sentences(fix, _resume_note(workspace))
            ) from error
        except BeingError as error:
            shown_error = error if joined is None else joined.named(error)
            fix = _sentences(error.fix, _resume_note(workspace))
            raise BeingError(shown_error.what, error.why, fix, error.code) from error
        except KeyboardInterrupt as error:
            raise BeingError(
                "interrupted", fix=_resume_note(workspace), code=ExitCode.INTERRUPTED
            ) from error
    return out


def _checked_clips(videos: Sequence[Path], audio: Path | None, au: Path | None) -> tuple[str, ...]:
    """sha256 of each video, after the checks that need no network."""
    if not videos:
        raise UsageError("no video was given", fix="Give a video of a person who speaks")
    if len(videos) > 1:
        return check_clips(videos, audio, au)
    probe_clip(videos[0], audio)
    return (sha256(videos[0]),)


def _choose_features(
    encoder: str | None, latency: str | None, folder: Path
) -> FeatureChoice | None:
    """The speech features besides the default ones, or None."""
    if encoder or latency:
        return choose_features(encoder or DEFAULT_ENCODER, latency, folder)
    return None


def _consent_record(consent: str | Consent | Callable[[], Consent] | None) -> Consent:
    """The consent in each of its forms. Raises UsageError where its statement is too long."""
    if callable(consent):
        return consent()
    if isinstance(consent, str):
        return Consent(consent)
    return consent or Consent()


def _resume_note(workspace: Workspace) -> str:
    """What the same command will do, where a step is finished."""
    finished = sum(step.name in workspace.finished for step in STEPS)
    if not finished:
        return ""
    return f"{finished} of {len(STEPS)} steps are done. {RESUME}"


def _sentences(*sentences: str) -> str:
    return ". ".join(sentence for sentence in sentences if sentence)
