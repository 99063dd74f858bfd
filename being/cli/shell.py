"""What every command shares: --json, -q, --config, -o, errors in one sentence, exit codes."""

from __future__ import annotations

import functools
import inspect
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from being.errors import BeingError, ExitCode
from being.progress import voice

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; text for people on stderr.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="No text but warnings and errors.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Config file, or the name of a shipped one "
                                                                    "(quick, 64_dim_1_transformer, ...).")]
OverrideOption = Annotated[list[str] | None, typer.Option("-o", "--override", metavar="KEY.PATH=VALUE",
                                                          help="Override a config value; may be repeated.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: CUDA where there is one.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Where the video goes (mp4, mov, mkv or webm).")]


def command(app: typer.Typer, name: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Register a function as command `name`: it returns a dict, printed as the one JSON object under `--json`."""

    def register(function: Callable[..., dict[str, Any] | None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(json: bool = False, quiet: bool = False, **arguments: Any) -> None:
            voice.json, voice.quiet = json, quiet
            raise typer.Exit(_run(lambda: function(**arguments)))

        signature = inspect.signature(function, eval_str=True)
        extra = [inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonFlag),
                 inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=QuietFlag)]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=parameters + extra, return_annotation=inspect.Signature.empty)
        run.__annotations__ = {p.name: p.annotation for p in parameters + extra}
        app.command(name, **settings)(run)
        return run

    return register


def _run(work: Callable[[], dict[str, Any] | None]) -> int:
    """Do the work; print its result or its error; the exit code."""
    try:
        result = work()
    except BeingError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return _fail(BeingError("interrupted", code=ExitCode.INTERRUPTED))
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except ModuleNotFoundError as error:
        return _fail(BeingError(f"the Python package '{error.name}' is not installed",
                                "this command needs one of the extras", "pip install 'being[all]'",
                                ExitCode.ENVIRONMENT))
    except MemoryError:
        return _fail(BeingError("out of memory", fix="Use a smaller picture (-o data.size=256) or fewer Gaussians"))
    except OSError as error:
        return _fail(BeingError(f"{error.filename or 'a file'}: {error.strerror or error}",
                                fix="Check the path, the rights and the space left"))
    except Exception as error:  # a fault of ours: say so in a line, keep the trace for whoever asks
        if os.environ.get("BEING_TRACE"):
            traceback.print_exc()
        return _fail(BeingError(f"internal error: {type(error).__name__}", str(error).split("\n")[0],
                                "Run again with BEING_TRACE=1 to see where"))
    if voice.json:
        print(json.dumps({"ok": True, **(result or {})}, default=str))
    return ExitCode.DONE


def _fail(error: BeingError) -> int:
    print(f"error: {error.message()}", file=sys.stderr, flush=True)
    if voice.json:
        print(json.dumps({"ok": False, "error": {"what": error.what, "why": error.why, "fix": error.fix,
                                                 "code": int(error.code)}}))
    return int(error.code)


def stop_on_sigterm() -> None:
    """SIGTERM unwinds like Ctrl-C, so that temporary files are removed; training handles it by itself."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
