"""How every command runs: --json and --quiet, errors on one line, exit codes."""

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

from being.console import console, drop_stream, write_line
from being.errors import BeingError, ExitCode, UsageError
from being.paths import user_path
from being.reading.content import reason

# The UsageError of the click that is part of typer.
ParsingError: type[Exception] = typer.BadParameter.__mro__[1]
# Words of torch's RuntimeError when memory is exhausted.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")

FETCHES = (
    "Pretrained files that are missing are fetched once, from their official address or the "
    "package index; BEING_OFFLINE=1 forbids it."
)

JsonFlag = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout; all other text goes to stderr.")
]
QuietFlag = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but warnings and errors.")
]


class Commands(TyperGroup):
    """The group of all commands; faults of the command line end like all other errors."""

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **settings: Any,
    ) -> Any:
        """Parse and run, then exit with the command's code; without arguments show the help."""
        arguments = list(sys.argv[1:] if args is None else args) or ["--help"]
        console.json, console.quiet = "--json" in arguments, False
        settings["standalone_mode"] = False
        try:
            code = super().main(arguments, prog_name or "being", **settings)
        except ParsingError as error:
            code = _print_error(_usage_error(error))
        except (KeyboardInterrupt, typer.Abort):
            code = _print_error(BeingError("interrupted", code=ExitCode.INTERRUPTED))
        except BrokenPipeError as error:  # while the help is printed
            drop_stream("stdout", error)
            code = ExitCode.FAILED
        except OSError as error:  # commands catch their own: this is --install-completion
            code = _print_error(
                BeingError(
                    "the completion of the shell cannot be installed",
                    reason(error),
                    "Print it with --show-completion, and put it where your shell reads it",
                )
            )
        sys.exit(code or ExitCode.DONE)


def _usage_error(error: Exception) -> UsageError:
    """A fault of the command line, as our error."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "being"
    message = error.format_message()  # type: ignore[attr-defined]
    what, near, hint = message.partition(" Did you mean")
    return UsageError(what.rstrip("."), fix=f"{near}{hint} See {path} --help".strip())


def command(
    app: typer.Typer, name: str, fetches: bool = False, **settings: Any
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """A decorator that registers a function as command `name`.

    The function returns a dict, which is printed as the one JSON object under `--json`. fetches:
    whether the command uses pretrained files; its help then says where they come from. `settings`
    are those of `typer.Typer.command`.
    """
    if fetches:
        settings["epilog"] = f"{settings.get('epilog', '')}\n\n{FETCHES}"

    def register(function: Callable[..., dict[str, Any] | None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(json: bool = False, quiet: bool = False, **arguments: Any) -> None:
            console.json, console.quiet = json, quiet
            raise typer.Exit(_run(lambda: function(**_with_user_paths(arguments))))

        # typer reads the parameters from the signature: add the two flags to it.
        signature = inspect.signature(function, eval_str=True)
        keyword_only = inspect.Parameter.KEYWORD_ONLY
        parameters = [p.replace(kind=keyword_only) for p in signature.parameters.values()]
        for flag, annotation in (("json", JsonFlag), ("quiet", QuietFlag)):
            parameters.append(
                inspect.Parameter(flag, keyword_only, default=False, annotation=annotation)
            )
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=parameters, return_annotation=inspect.Signature.empty
        )
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name, **settings)(run)
        return run

    return register


def _with_user_paths(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a command, with each path as `user_path` gives it."""

    def checked(value: Any) -> Any:
        if isinstance(value, list):
            return [checked(item) for item in value]
        return user_path(value) if isinstance(value, Path) else value

    return {name: checked(value) for name, value in arguments.items()}


def _run(work: Callable[[], dict[str, Any] | None]) -> int:
    """Do the work, print its result or its error, and return the exit code."""
    try:
        result = work()
    except (typer.Exit, typer.Abort):
        raise
    except (Exception, KeyboardInterrupt) as error:
        return _print_error(_as_being_error(error))
    if console.json:
        text = json.dumps({"ok": True, **(result or {})}, default=str)
        if not write_line(text, "stdout"):
            return _print_error(
                BeingError(
                    "the result could not be printed", "stdout is closed", "All work is done"
                )
            )
    return ExitCode.DONE


def _as_being_error(error: BaseException) -> BeingError:
    """Any exception of a command as a BeingError."""
    if isinstance(error, BeingError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return BeingError("interrupted", code=ExitCode.INTERRUPTED)
    if isinstance(error, ModuleNotFoundError):
        return BeingError(
            f"the Python package '{error.name}' is not installed",
            "this command needs one of the extras",
            "pip install 'being[all]'",
            ExitCode.ENVIRONMENT,
        )
    torch_out_of_memory = isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in OUT_OF_MEMORY
    )
    if isinstance(error, MemoryError) or torch_out_of_memory:
        return BeingError(
            "out of memory",
            fix="Train on smaller images (-o data.size=256) or with fewer Gaussians "
            "(-o data.initial_gaussians=10000)",
        )
    if isinstance(error, OSError):
        return BeingError(
            f"{error.filename or 'a file'}: {error.strerror or error}",
            fix="Check the path, the permissions and the free space",
        )
    return _internal_error(error)


def _internal_error(error: BaseException) -> BeingError:
    """An unexpected exception as one line; BEING_TRACE=1 prints the traceback too."""
    if os.environ.get("BEING_TRACE"):
        traceback.print_exception(error)
    return BeingError(
        f"internal error: {type(error).__name__}",
        reason(error),
        "Run again with BEING_TRACE=1 to see the traceback",
    )


def _print_error(error: BeingError) -> int:
    """Print the error on one line, under `--json` also as the object on stdout; its exit code."""
    console.error(error.message())
    if console.json:
        fields = {"what": error.what, "why": error.why, "fix": error.fix, "code": int(error.code)}
        write_line(json.dumps({"ok": False, "error": fields, **error.details}), "stdout")
    return int(error.code)


def stop_on_signals() -> None:
    """Make SIGTERM and SIGHUP (a closed terminal) unwind like Ctrl-C, so that temporary files are
    removed.

    An ignored signal stays ignored, as `nohup` wants it. Training installs its own handler.
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def keep_standard_streams() -> None:
    """Open stdin, stdout and stderr on nothing where the caller closed them.

    Else the next file that is opened would take the number of one, and what a library prints
    would be written into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
