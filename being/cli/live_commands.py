"""Commands of the live session: serve, bench-live."""

from __future__ import annotations

import dataclasses
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from being.cli.avatar_commands import AvatarArgument
from being.cli.command import command
from being.cli.options import DeviceOption, SplatOption, select_rasterizer
from being.cli.render_options import DeformationOption, PrecisionOption, WatermarkOption
from being.cli.server_packages import check_server_packages
from being.cli.talk_options import (
    HistoryOption,
    LlmModelOption,
    LlmOption,
    PromptOption,
    SpeechModelOption,
    SpeechOption,
    TranscribeModelOption,
    TranscribeOption,
    set_speech_endpoint,
    talk_options,
)
from being.console import console
from being.errors import BeingError, EnvironmentFault, InputRejected, UsageError

if TYPE_CHECKING:
    from being.api.supervisor import ServeOptions

TOKEN_BYTES = 18
TICKET_KEY_BYTES = 32
CERTIFICATE_FOLDER = "certificate"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    command(app, "serve", epilog="Example: being serve --port 8000")(serve)
    command(app, "bench-live", epilog="Example: being bench-live --random 20000")(bench_live)


def serve(
    avatars: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="AVATAR...",
            help="Folders of runs or avatar bundles (default: the most recent finished run).",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; 0.0.0.0: all, then a token is needed."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0: any free one.")
    ] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            help="What clients must give to connect (default: none on this machine's own address, "
            "else a new one).",
        ),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Let everybody connect who reaches the address.")
    ] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="ORIGIN",
            help="Origin of pages of other hosts that may connect, such as https://example.org, "
            "or * for all; may be repeated.",
        ),
    ] = None,
    cert: Annotated[
        Path | None, typer.Option("--cert", help="Certificate (PEM) for HTTPS; needs --key.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Key (PEM) of --cert.")] = None,
    self_signed: Annotated[
        bool,
        typer.Option("--self-signed", help="HTTPS by a self-signed certificate, made when needed."),
    ] = False,
    max_sessions: Annotated[
        int | None,
        typer.Option(
            "--max-sessions",
            min=1,
            help="Sessions at a time (default: as many as the machine serves, measured at start).",
        ),
    ] = None,
    max_client_sessions: Annotated[
        int | None,
        typer.Option(
            "--max-client-sessions",
            min=1,
            help="Sessions at a time whose clients draw, beside the others (default: as many as "
            "the fronts serve, measured at start).",
        ),
    ] = None,
    max_per_address: Annotated[
        int,
        typer.Option(
            "--max-per-address", min=1, help="Sessions at a time of one address (not this machine)."
        ),
    ] = 8,
    fronts: Annotated[
        int | None,
        typer.Option(
            "--fronts",
            min=1,
            help="Processes for sockets, speech and encoding (default: the cores less one).",
        ),
    ] = None,
    voice: Annotated[
        str, typer.Option("--voice", help="Voice of sessions that name none; see tts-video.")
    ] = "hibari",
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="Place sessions on replicas of the server, by Ray Serve; needs --max-sessions, "
            "those of a replica. Clients ask for a place with POST sessions; docs/scaling.md.",
        ),
    ] = False,
    replicas: Annotated[
        str,
        typer.Option(
            "--replicas",
            metavar="N or MIN:MAX",
            help="With --ray: replicas; MIN:MAX come and go with the number of sessions.",
        ),
    ] = "1",
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            help="With --ray: the cluster (default: this machine alone). Avatars must lie under "
            "the same paths on all its machines, and replicas use a GPU with --device cuda.",
        ),
    ] = None,
    proxy: Annotated[
        bool,
        typer.Option(
            "--proxy",
            help="With --ray: pass all media through the one port; default: they go straight to "
            "the port of the replica.",
        ),
    ] = False,
    drain: Annotated[
        float,
        typer.Option(
            "--drain",
            metavar="SECONDS",
            min=0,
            help="With --ray: how long a replica that is no longer needed waits for its sessions.",
        ),
    ] = 3600.0,
    background: Annotated[
        list[str] | None,
        typer.Option(
            "--background",
            metavar="COLOUR|FILE|transparent",
            help="Offer clients this background beside the filmed one: a colour, a picture, or "
            "transparent; may be repeated.",
        ),
    ] = None,
    into_source: Annotated[
        bool,
        typer.Option("--into-source", help="Offer clients the head in the whole recorded frame."),
    ] = False,
    watermark: WatermarkOption = True,
    speech: SpeechOption = None,
    speech_model: SpeechModelOption = None,
    llm: LlmOption = None,
    llm_model: LlmModelOption = "default",
    transcribe: TranscribeOption = None,
    transcribe_model: TranscribeModelOption = "whisper-1",
    system_prompt: PromptOption = None,
    history: HistoryOption = 40,
    precision: PrecisionOption = "auto",
    deform: DeformationOption = "network",
    device: DeviceOption = "auto",
    splat: SplatOption = None,
) -> dict[str, Any]:
    """Serve avatars live: a page and a WebSocket on one port, until Ctrl-C."""
    check_server_packages()
    from being.api.addresses import address_lines, page_address
    from being.api.limits import is_loopback
    from being.api.supervisor import Supervisor, end_on_signals

    if token is None and not no_token and not is_loopback(host):
        token = secrets.token_urlsafe(TOKEN_BYTES)
    set_speech_endpoint(speech, speech_model, voice)
    if ray:
        _check_placed(max_sessions, host, address)
    elif replicas != "1" or address is not None or proxy:
        raise UsageError("--replicas, --address and --proxy need --ray", fix="Give --ray too")
    talk = talk_options(llm, llm_model, transcribe, transcribe_model, system_prompt, history)
    options = dataclasses.replace(
        _options(
            avatars, host, port, token, allow_origin, cert, key, self_signed, device, splat, address
        ),
        fronts=fronts,
        limit=max_sessions or 0,
        drawn_limit=max_client_sessions or 0,
        limit_by_address=max_per_address,
        precision=precision,
        deform=deform,
        voice=voice,
        watermark=watermark,
        looks=_looks(background, into_source),
        talk=talk,
    )
    secure = options.certificate is not None
    if ray:
        return _serve_placed(options, replicas, address, proxy, drain)
    options = _with_web_bundles(options)
    with Supervisor(options) as supervisor:
        console.info("loading ...")
        supervisor.start()
        for line in address_lines(host, supervisor.port, token, secure):
            console.info(line)
        if supervisor.drawn_limit:
            console.info(f"{supervisor.drawn_limit} sessions more whose clients draw")
        console.info(f"{supervisor.limit} sessions at a time; Ctrl-C ends the server")
        end_on_signals(supervisor)
        supervisor.watch()
    scheme = "https" if secure else "http"
    return {"url": page_address(scheme, host, supervisor.port, token), "limit": supervisor.limit}


def _with_web_bundles(options: ServeOptions) -> ServeOptions:
    """The options with the bundles of avatars that clients can draw; made where they are missing.

    A bundle that cannot be made is told: then clients need one of their own.
    """
    from being.assets.cache import cache_folder
    from being.interop.web.cached import cached_bundle
    from being.interop.web.exporter import PAGE

    bundles: dict[str, Path] = {}
    for name, folder in options.avatars.items():
        try:
            bundle = cached_bundle(folder, cache_folder() / "web")
        except (BeingError, OSError) as error:
            console.warn(f"the page cannot draw {name} by itself: {error}")
            continue
        if bundle is not None:
            bundles[name] = bundle
    return dataclasses.replace(options, web_bundles=bundles, web_modules=PAGE)


def _looks(backgrounds: list[str] | None, into_source: bool) -> tuple[str, ...]:
    """The looks that clients may choose. Raises UsageError where two have one name."""
    from being.inference.live_look import FILMED, SOURCE, look_name

    looks = [*(backgrounds or []), *([SOURCE] if into_source else [])]
    names = [FILMED, *(look_name(text) for text in looks)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"two backgrounds are called {name!r}",
                "clients choose them by name; a picture has that of its file",
                "Give another one, or rename the file",
            )
    return tuple(looks)


def bench_live(
    avatar: AvatarArgument = None,
    random: Annotated[
        int | None,
        typer.Option(
            "--random",
            metavar="N",
            min=1,
            help="Measure an untrained avatar of N Gaussians at 512 px.",
        ),
    ] = None,
    sessions: Annotated[
        int,
        typer.Option("--sessions", metavar="N", min=1, help="Also measure N sessions at a time."),
    ] = 1,
    client_render: Annotated[
        int,
        typer.Option(
            "--client-render",
            metavar="N",
            min=0,
            help="Also measure N sessions at a time whose clients draw (needs bases).",
        ),
    ] = 0,
    seconds: Annotated[
        float, typer.Option("--seconds", min=2, help="Sound that each session pushes.")
    ] = 20.0,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Texts, interrupts and connections to time.")
    ] = 20,
    connects: Annotated[
        int,
        typer.Option(
            "--connects", metavar="N", min=0, help="Also measure memory over N connections."
        ),
    ] = 0,
    page: Annotated[
        bool,
        typer.Option("--page", help="Also measure the page in headless Chromium on this machine."),
    ] = False,
    page_interrupts: Annotated[
        int, typer.Option("--page-interrupts", min=1, help="Interrupts in the page, with --page.")
    ] = 20,
    page_sync: Annotated[
        float,
        typer.Option(
            "--page-sync",
            metavar="SECONDS",
            min=0,
            help="Sync of clicks and white pictures over this time, with --page.",
        ),
    ] = 30.0,
    conversation: Annotated[
        bool,
        typer.Option(
            "--conversation",
            help="Measure answers to speech instead, with stand-ins for the endpoints.",
        ),
    ] = False,
    fronts: Annotated[
        int | None, typer.Option("--fronts", min=1, help="Front processes; see serve.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.html", help="Write the latencies as plots."),
    ] = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    splat: SplatOption = None,
) -> dict[str, Any]:
    """Measure a live server: first sound and picture, lateness, interrupts, sessions, memory."""
    check_server_packages()
    from being.bench.browser import find_chromium
    from being.bench.live import LiveBenchOptions
    from being.bench.live import bench_live as measure
    from being.cli.avatar_commands import find_folder
    from being.model.device import pick_device
    from being.paths import check_writable

    if report is not None:
        check_writable(report)
    if page and find_chromium() is None:
        raise EnvironmentFault(
            "there is no Chromium for --page",
            "none of the usual names is on the PATH",
            "apt-get install chromium, or name one in BEING_CHROMIUM",
        )
    options = LiveBenchOptions(
        find_folder(avatar) if random is None else None,
        gaussians=random or 0,
        device=str(pick_device(device)),
        precision=precision,
        rasterizer=select_rasterizer(device, splat),
        fronts=fronts,
        repeats=repeats,
        sessions=sessions,
        seconds=seconds,
        connects=connects,
        drawn=client_render,
        page=(page_interrupts, page_sync) if page else None,
        report=report,
    )
    if conversation:
        from being.bench.conversation import bench_conversation

        result = bench_conversation(options)
        for name in ("own_share", "with_stand_ins"):
            console.info(f"{name:<16}{json.dumps(result[name])}")
        return result
    return measure(options, lambda name, part: console.info(f"{name:<10}{json.dumps(part)}"))


def _options(
    avatars: list[Path] | None,
    host: str,
    port: int,
    token: str | None,
    origins: list[str] | None,
    cert: Path | None,
    key: Path | None,
    self_signed: bool,
    device: str,
    splat: str | None,
    address: str | None,
) -> ServeOptions:
    """The options that need to be checked or looked up. address: of a cluster, whose machines have
    the device, not this one.
    """
    from being.api.certificates import checked_pair, self_signed_pair
    from being.api.supervisor import ServeOptions
    from being.model.device import pick_device
    from being.paths import home

    if (cert is None) != (key is None):
        raise UsageError("--cert and --key belong together", fix="Give both, or --self-signed")
    if self_signed and cert is not None:
        raise UsageError("--self-signed makes its own pair", fix="Leave --cert and --key out")
    if cert is not None and key is not None:
        cert, key = checked_pair(cert, key)
    elif self_signed:
        cert, key = self_signed_pair(home() / CERTIFICATE_FOLDER, host)
    return ServeOptions(
        _named_avatars(avatars),
        host=host,
        port=port,
        token=token,
        origins=[origin.rstrip("/") for origin in origins or []],
        certificate=cert,
        key=key,
        device=_cluster_device(device) if address else str(pick_device(device)),
        rasterizer=splat or "auto" if address else select_rasterizer(device, splat),
    )


def _cluster_device(device: str) -> str:
    """The device of replicas on a cluster. Raises UsageError for an unknown one."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"there is no device '{device}'", fix="Give --device cpu or cuda")
    return "cpu" if device == "auto" else device


def _check_placed(max_sessions: int | None, host: str, address: str | None) -> None:
    """Raise where sessions cannot be placed by Ray."""
    from being.api.limits import is_loopback
    from being.deploy.ray_cluster import check_ray

    check_ray()
    if max_sessions is None:
        raise UsageError(
            "--ray needs --max-sessions N",
            "N is the number of sessions of one replica",
            "`being serve` measures how many a machine serves, and prints it",
        )
    if address is not None and is_loopback(host):
        raise UsageError(
            f"--host {host} cannot be reached from other machines",
            "a cluster was named with --address",
            "Give --host 0.0.0.0",
        )


def _serve_placed(
    options: ServeOptions, replicas: str, address: str | None, proxy: bool, drain: float
) -> dict[str, Any]:
    """Serve by Ray until Ctrl-C."""
    from being.api.addresses import address_lines, page_address
    from being.api.readiness import bound_socket
    from being.deploy.plan import Plan, parse_replicas
    from being.deploy.ray_cluster import own_environment
    from being.deploy.serve_run import serve_sessions

    fewest_most = parse_replicas(replicas)
    port = options.port
    if address is None:
        # Serve takes no port 0, and tells late where a port is taken.
        try:
            with bound_socket(options.host, port) as free:
                port = free.getsockname()[1]
        except OSError as error:
            raise EnvironmentFault(
                f"cannot listen on {options.host} port {port}",
                error.strerror or str(error),
                "Choose another port with --port, or 0 for any free one",
            ) from error
    absolute = {name: folder.absolute() for name, folder in options.avatars.items()}
    plan = Plan(
        dataclasses.replace(options, port=port, avatars=absolute),
        secrets.token_hex(TICKET_KEY_BYTES),
        fewest_most,
        proxied=proxy,
        cpus=float(options.fronts or 1),
        gpus=1.0 if options.device.startswith("cuda") else 0.0,
        environment=own_environment(),
        drain_s=drain,
    )
    secure = plan.secure

    def ready() -> None:
        for line in address_lines(options.host, port, options.token, secure):
            console.info(line)
        console.info(f"{plan.limit} sessions a replica, {replicas} replicas; Ctrl-C ends them")

    serve_sessions(plan, address, ready)
    scheme = "https" if secure else "http"
    url = page_address(scheme, options.host, port, options.token)
    return {"url": url, "limit": plan.limit, "replicas": list(fewest_most)}


def _named_avatars(folders: list[Path] | None) -> dict[str, Path]:
    """The folders of the avatars by distinct names."""
    from being.reading.structured import read_json
    from being.runs.run_directory import Run

    named: dict[str, Path] = {}
    for folder in folders or [Run.find(None, finished=True).path]:
        if not folder.exists():
            raise InputRejected(
                f"{folder} does not exist", fix="Give the folder of a run or of an avatar bundle"
            )
        bundle = folder if (folder / "manifest.json").is_file() else folder / "avatar"
        name = folder.name
        if (bundle / "manifest.json").is_file():
            name = str(read_json(bundle / "manifest.json").get("name") or name)
        base, number = name, 2
        while name in named:
            name, number = f"{base}-{number}", number + 1
        named[name] = folder
        console.info(f"avatar {name}: {folder}")
    return named
