"""What commands share: --json and -q, --config and -o of those that read settings, errors in one
line, exit codes.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from being.console import voice
from being.errors import BeingError, ExitCode, UsageError

ParsingError: type[Exception] = typer.BadParameter.__mro__[
    1
]  # UsageError of the click that this typer carries
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # how torch says it, in a RuntimeError

JsonFlag = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout; text for people goes to stderr.")
]
QuietFlag = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but warnings and errors.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Config file, or the name of a shipped one: "
        "quick (two CPU cores), 64_dim_1_transformer "
        "(GPU), 64_dim_2_transformer, fast (a smaller "
        "network). Default: by the device.",
    ),
]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--override",
        metavar="KEY.PATH=VALUE",
        help="Set one config value, for instance train.fine.steps=500; may be repeated.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="cpu, cuda, or auto: CUDA where there is one.")
]
SplatOption = Annotated[
    str | None,
    typer.Option(
        "--splat",
        metavar="NAME",
        help="Rasterizer: triton (CUDA), cpu, "
        "torch (slow, any device), gsplat or diff-gaussian where they are "
        "installed (CUDA); default: auto, the fastest that is here.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Where the video goes (mp4, mov, mkv or webm).")
]


class Commands(TyperGroup):
    """The group of all commands: what is wrong with the command line itself ends like every other
    error.
    """

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **settings: Any,
    ) -> Any:
        """Parse and run, then exit with the command's code; without arguments the help is shown."""
        arguments = list(sys.argv[1:] if args is None else args) or ["--help"]
        voice.json, voice.quiet = "--json" in arguments, False
        try:
            code = super().main(
                arguments, prog_name or "being", **{**settings, "standalone_mode": False}
            )
        except ParsingError as error:
            context = getattr(error, "ctx", None)
            path = context.command_path if context is not None else "being"
            what, near, hint = error.format_message().partition(" Did you mean")  # type: ignore[attr-defined]
            code = _fail(
                UsageError(what.rstrip("."), fix=f"{near}{hint} See {path} --help".strip())
            )
        except (KeyboardInterrupt, typer.Abort):
            code = _fail(BeingError("interrupted", code=ExitCode.INTERRUPTED))
        sys.exit(code or ExitCode.DONE)


def command(
    app: typer.Typer, name: str, **settings: Any
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """A decorator that registers a function as command `name`: it returns a dict, printed as the
    one JSON object under `--json`; `settings` are Typer's."""

    def register(function: Callable[..., dict[str, Any] | None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(json: bool = False, quiet: bool = False, **arguments: Any) -> None:
            voice.json, voice.quiet = json, quiet
            raise typer.Exit(_run(lambda: function(**arguments)))

        signature = inspect.signature(function, eval_str=True)
        extra = [
            inspect.Parameter(
                "json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonFlag
            ),
            inspect.Parameter(
                "quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=QuietFlag
            ),
        ]
        parameters = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()
        ]
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=parameters + extra, return_annotation=inspect.Signature.empty
        )
        run.__annotations__ = {p.name: p.annotation for p in parameters + extra}
        app.command(name, **settings)(run)
        return run

    return register


def take_rasterizer(device: str, splat: str | None) -> str:
    """The name of the rasterizer backend that renders on `device` from now on: the one called
    `splat`, or the fastest.

    Raises UsageError for a name that is none, EnvironmentFault for a device or backend that is not
    here.
    """
    from being.model.device import pick_device
    from being.splat import choose_backend, chosen_backend

    where = pick_device(device)
    choose_backend(splat or "auto", where)
    return chosen_backend(where)


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
        return _fail(
            BeingError(
                f"the Python package '{error.name}' is not installed",
                "this command needs one of the extras",
                "pip install 'being[all]'",
                ExitCode.ENVIRONMENT,
            )
        )
    except MemoryError:
        return _fail(_out_of_memory())
    except OSError as error:
        return _fail(
            BeingError(
                f"{error.filename or 'a file'}: {error.strerror or error}",
                fix="Check the path, the rights and the space left",
            )
        )
    except Exception as error:
        if isinstance(error, RuntimeError) and any(
            phrase in str(error).lower() for phrase in OUT_OF_MEMORY
        ):
            return _fail(_out_of_memory())
        return _fail(_internal(error))
    if voice.json:
        print(json.dumps({"ok": True, **(result or {})}, default=str))
    return ExitCode.DONE


def _out_of_memory() -> BeingError:
    return BeingError(
        "out of memory",
        fix="Train on a smaller picture (-o data.size=256) or with fewer Gaussians "
        "(-o data.gaussians=10000)",
    )


def _internal(error: Exception) -> BeingError:
    """A fault of ours: said in a line, with the trace for whoever asks."""
    if os.environ.get("BEING_TRACE"):
        traceback.print_exception(error)
    return BeingError(
        f"internal error: {type(error).__name__}",
        (str(error).splitlines() or [""])[0],
        "Run again with BEING_TRACE=1 to see where",
    )


def _fail(error: BeingError) -> int:
    """Print the error in one line, under `--json` also as the object on stdout; its exit code."""
    print(f"error: {' '.join(error.message().split())}", file=sys.stderr, flush=True)
    if voice.json:
        said = {"what": error.what, "why": error.why, "fix": error.fix, "code": int(error.code)}
        print(json.dumps({"ok": False, "error": said, **error.details}))
    return int(error.code)


def stop_on_sigterm() -> None:
    """SIGTERM unwinds like Ctrl-C, so that temporary files are removed; training handles it by
    itself.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
