"""From a video of a person to a dataset: a look at the clip, the steps, the manifest and the
report.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from being.console import Progress
from being.data.consent import Consent
from being.errors import BeingError, ExitCode, InputRejected, UsageError
from being.files import write_json
from being.preprocess.inspection.picture import PICTURE_SIDE, picture_and_sound
from being.preprocess.manifest import manifest
from being.preprocess.report import write_report
from being.preprocess.source import keep_source
from being.preprocess.speech_features import ENCODER, choose
from being.preprocess.step_graph import Stop, run_steps
from being.preprocess.steps import STEPS, Settings, Work, check_settings
from being.preprocess.workspace import Workspace, check_free, sha256

NAME = re.compile(r"[^.\\/\x00-\x1f][^\\/\x00-\x1f]*")  # of a subject: a folder's
NAME_BYTES = 200  # file systems take 255, and hidden folders have longer names
CONSENT_MAX = 2000  # characters
GOES_ON = "The same command goes on from there"


def preprocess(
    video: Path,
    out: Path,
    *,
    name: str | None = None,
    size: int | None = None,
    parser: str | None = None,
    au: Path | None = None,
    encoder: str | None = None,
    latency: str | None = None,
    consent: str | Consent | Callable[[], Consent] | None = None,
    force: bool = False,
    progress: type[Progress] = Progress,
) -> Path:
    """The path of a dataset made from a video of one speaking person.

    video: any file with a picture and sound that PyAV decodes. out: the dataset's directory; it
    appears under this name only when whole. name: by default the directory's. size: largest side of
    the pictures, px (512); a picture that is not square is cut to a square round the head. parser:
    who says where the person is (`parser.parser`). au: OpenFace's csv of this video, taken instead
    of our own action units. encoder, latency: speech features besides the default ones
    (`speech_features.choose`). consent: whose face it is and how they agreed, or a function that
    asks. force: replace a dataset that is already there. progress: shows each step. A run that was
    killed, interrupted or failed leaves the hidden folder `.NAME.part` beside `out`; the next one
    on the same video goes on after the steps that are done, and makes the same files. Raises
    InputRejected (the clip will not do: said within seconds where a look at it tells), BeingError
    (cannot write, something is there already, another run works there, interrupted),
    EnvironmentFault (a pretrained file cannot be had).
    """
    video, out = Path(video), Path(out).absolute()
    name = out.name if name is None else name
    if not NAME.fullmatch(name) or not name.strip() or len(os.fsencode(name)) > NAME_BYTES:
        raise UsageError(
            f"'{name[:80]}' cannot be the name of a subject",
            "runs lie in folders of that name",
            "Give a short one without slashes that does not begin with a dot: --name NAME",
        )
    picture_and_sound(video)  # these refusals need no network, which may first have to be fetched
    check_free(out, force)
    chosen = choose(encoder or ENCODER, latency, video.parent) if encoder or latency else None
    settings = Settings(size or PICTURE_SIDE, parser, Path(au) if au else None, chosen)
    check_settings(settings)
    agreed = (
        consent()
        if callable(consent)
        else Consent(consent)
        if isinstance(consent, str)
        else consent or Consent()
    )
    if len(agreed.statement or "") > CONSENT_MAX:
        raise UsageError(
            f"the consent statement has {len(agreed.statement or '')} characters",
            f"every video carries it, so at most {CONSENT_MAX} are kept",
            "Say it shorter: --consent TEXT",
        )
    with Workspace(out, force) as place:
        try:
            key = sha256(video)
            place.claim(key)
            work = Work(video, place.folder, settings, stop := Stop())
            done = run_steps(STEPS, work, place, stop, progress)
            keep_source(video, place.folder, work.checked.frames)
            write_json(place.folder / "dataset.json", manifest(work, name, key, done, agreed))
            write_json(
                place.folder / "times.json", {step: did.seconds for step, did in done.items()}
            )
            with progress("report"):
                write_report(place.folder)
            place.finish()
        except (InputRejected, UsageError):
            raise
        except OSError as error:
            fix = "Make room on the disk or choose another place with --out"
            raise BeingError(f"cannot write {out}", str(error), _and(fix, _after(place))) from error
        except BeingError as error:
            raise BeingError(
                error.what, error.why, _and(error.fix, _after(place)), error.code
            ) from error
        except KeyboardInterrupt as error:
            raise BeingError("interrupted", fix=_after(place), code=ExitCode.INTERRUPTED) from error
    return out


def _after(place: Workspace) -> str:
    """What running again will do, where anything is done."""
    return f"{len(place.done)} of {len(STEPS)} steps are done. {GOES_ON}" if place.done else ""


def _and(*sentences: str) -> str:
    return ". ".join(sentence for sentence in sentences if sentence)
