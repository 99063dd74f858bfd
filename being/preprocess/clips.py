"""Several clips of one person as the one source video of a dataset: checks, joining, its record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from being.data.manifest import CLIPS_MAX
from being.errors import BeingError, InputRejected, UsageError
from being.files import write_json
from being.media.joining import SUFFIX, join_videos
from being.preprocess.inspection.clip_parts import ClipPart
from being.preprocess.inspection.picture import probe_clip
from being.preprocess.workspace import sha256
from being.reading.structured import read_json

JOINED_STEM = "joined"  # of the joined video's name
JOIN_VERSION = 1  # raise it when a change of the code changes joined videos

Advance = Callable[[int], None]


@dataclass(frozen=True)
class JoinedClips:
    """The joined video, and the clips that it is made of."""

    video: Path
    # of the joined video
    sha256: str
    # in order
    clips: tuple[ClipPart, ...]

    def named(self, error: BeingError) -> BeingError:
        """The error with the names of the clips instead of the joined video's."""
        names = ", ".join(clip.file for clip in self.clips)
        what = error.what.replace(str(self.video), f"the clips {names} together")
        renamed = type(error)(what, error.why, error.fix)
        renamed.code, renamed.details = error.code, error.details
        return renamed


def check_clips(
    videos: Sequence[Path], audio: Path | None = None, au: Path | None = None
) -> tuple[str, ...]:
    """sha256 of each clip, after the checks that need no face landmarks and no joining.

    audio, au: files that belong to one clip. Raises UsageError: too many clips, or a file that
    belongs to one clip; InputRejected: the same clip twice, a clip that cannot be used.
    """
    for option, file in (("--audio", audio), ("--au", au)):
        if file is not None:
            raise UsageError(
                f"{option} was given with {len(videos)} clips",
                f"{file} belongs to one clip",
                "Give one clip, or leave the option out",
            )
    if len(videos) > CLIPS_MAX:
        raise UsageError(
            f"{len(videos)} clips were given",
            f"a dataset is made of {CLIPS_MAX} at most",
            "Take the best ones: minutes of one person are enough",
        )
    digests: dict[str, Path] = {}
    for video in videos:
        info, _ = probe_clip(video)
        digest = sha256(video)
        if digest in digests:
            raise InputRejected(
                f"{info.path} is the same clip as {digests[digest]}",
                "it would count twice",
                "Give each clip once",
            )
        digests[digest] = video
    return tuple(digests)


def clips_key(digests: Sequence[str]) -> str:
    """The key of a dataset made of the clips with these digests, in this order."""
    text = "\n".join((f"joined {JOIN_VERSION}", *digests))
    return hashlib.sha256(text.encode()).hexdigest()


def join_clips(
    videos: Sequence[Path], digests: Sequence[str], folder: Path, advance: Advance | None = None
) -> JoinedClips:
    """The clips joined into one video in `folder`, or the one that an earlier run left there.

    digests: of `check_clips`. advance(n): n more frames have been read. Errors as `join_videos`.
    """
    key = clips_key(digests)[:16]
    video = folder / f"{JOINED_STEM}-{key}{SUFFIX}"
    record = folder / f"{JOINED_STEM}-{key}.json"
    if (found := _read_joined(video, record, digests)) is not None:
        return found
    for left in folder.glob(f"{JOINED_STEM}-*"):
        left.unlink()

    joined = join_videos(videos, video, advance)
    clips = tuple(
        ClipPart(path.name, digest, frames)
        for path, digest, frames in zip(videos, digests, joined.frames, strict=True)
    )
    made = JoinedClips(video, sha256(video), clips)
    write_json(record, {"sha256": made.sha256, "clips": [asdict(clip) for clip in clips]})
    return made


def _read_joined(video: Path, record: Path, digests: Sequence[str]) -> JoinedClips | None:
    """The joined video of an earlier run; None where it is missing or damaged."""
    if not video.is_file() or not record.is_file():
        return None
    try:
        value = read_json(record)
        clips = tuple(ClipPart(**clip) for clip in value["clips"])
    except (InputRejected, KeyError, TypeError):
        return None
    same = [clip.sha256 for clip in clips] == list(digests)
    if not same or value["sha256"] != sha256(video):
        return None
    return JoinedClips(video, value["sha256"], clips)
