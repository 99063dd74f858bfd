"""The formats of written videos: container, codec, pixels, settings of the encoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from being.errors import UsageError

PNG = "png"  # the codec of a folder of pictures
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
BIT_RATES = (50_000, 200_000_000)  # bits a second


@dataclass(frozen=True)
class Codec:
    """A video codec, and how it is encoded here."""

    encoder: str  # ffmpeg's name
    pixels: str = "yuv420p"
    alpha_pixels: str = ""  # with transparency; "": it has none
    crf: int | None = None  # default quality, lower is better; None: it has no such setting
    crf_max: int = 51
    options: dict[str, str] = field(default_factory=dict)
    alpha_options: dict[str, str] = field(default_factory=dict)  # besides, with transparency


CODECS = {
    "h264": Codec("libx264", crf=18, options={"preset": "veryfast"}),
    "hevc": Codec("libx265", crf=20, options={"preset": "fast", "x265-params": "log-level=error"}),
    "vp9": Codec(
        "libvpx-vp9",
        alpha_pixels="yuva420p",
        crf=30,
        crf_max=63,
        options={"b:v": "0", "deadline": "realtime", "cpu-used": "6"},
        alpha_options={"auto-alt-ref": "0"},  # hidden frames would have no transparency
    ),
    "av1": Codec("libsvtav1", crf=30, crf_max=63, options={"preset": "9"}),
    "prores": Codec(
        "prores_ks",
        "yuv422p10le",
        "yuva444p10le",
        options={"profile": "hq", "vendor": "apl0"},
        alpha_options={"profile": "4444", "alpha_bits": "16"},
    ),
}
# File type -> its codecs, the default one first.
CONTAINERS = {
    ".mp4": ("h264", "hevc", "av1", "vp9"),
    ".mov": ("h264", "hevc", "prores"),
    ".mkv": ("h264", "hevc", "vp9", "av1", "prores"),
    ".webm": ("vp9", "av1"),
}
# File type -> the default codec of videos with transparency.
ALPHA_CODECS = {".mov": "prores", ".webm": "vp9"}


@dataclass(frozen=True)
class VideoSettings:
    """What a person may choose of a video file; the type of file is that of its name."""

    codec: str | None = None  # of CODECS, or PNG; None: the usual one of the file type
    crf: int | None = None  # quality, lower is better
    bitrate: int | None = None  # bits a second, instead of a quality
    alpha: bool = False  # keep transparency


@dataclass(frozen=True)
class VideoFormat:
    """How one video file is encoded."""

    encoder: str  # ffmpeg's name of the video encoder
    pixels: str  # ffmpeg's name of the pixel format
    options: dict[str, str]  # of the video encoder
    bitrate: int | None  # bits a second
    audio: str  # ffmpeg's name of the audio encoder
    container_options: dict[str, str]
    tag: str | None = None  # codec tag in the file

    def audio_rate(self, rate: int) -> int:
        """The rate in Hz at which audio of `rate` Hz is stored: the same where the codec has it."""
        if self.audio == "libopus":
            return 48_000
        if self.audio == "aac":
            return next((known for known in AAC_RATES if known >= rate), AAC_RATES[-1])
        return rate


def choose_format(path: Path, settings: VideoSettings = VideoSettings()) -> VideoFormat:
    """The format of the video file `path`.

    Raises UsageError for an unknown type of file or codec, a codec that the file type does not
    hold, transparency that it does not hold, and settings out of range.
    """
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS:
        raise UsageError(
            f"cannot write {path}",
            f"unknown video type '{path.suffix}'",
            f"Name it with one of {', '.join(CONTAINERS)}",
        )
    default = CONTAINERS[suffix][0]
    name = settings.codec or (ALPHA_CODECS.get(suffix, default) if settings.alpha else default)
    codec = _checked_codec(name, suffix, settings.alpha)
    if settings.bitrate is not None:
        options, bitrate = _without_quality(codec), _checked_bitrate(name, codec, settings)
    else:
        options, bitrate = _with_quality(name, codec, settings.crf), None
    if settings.alpha:
        options.update(codec.alpha_options)

    mp4 = suffix in (".mp4", ".mov")
    audio = "libopus" if suffix == ".webm" else "pcm_s16le" if name == "prores" else "aac"
    return VideoFormat(
        codec.encoder,
        codec.alpha_pixels if settings.alpha else codec.pixels,
        options,
        bitrate,
        audio,
        {"movflags": "+faststart"} if mp4 else {},
        "hvc1" if mp4 and name == "hevc" else None,
    )


def default_suffix(settings: VideoSettings) -> str:
    """The file type of a video without a name: the first one that holds it; "" for a folder."""
    if settings.codec == PNG:
        return ""
    if settings.alpha:
        fitting = [s for s, codec in ALPHA_CODECS.items() if settings.codec in (None, codec)]
    else:
        fitting = [s for s, codecs in CONTAINERS.items() if settings.codec in (None, *codecs)]
    return next(iter(fitting), ".mp4")


def check_png_settings(settings: VideoSettings) -> None:
    """Raise UsageError for settings that a folder of pictures does not have."""
    if settings.crf is not None or settings.bitrate is not None:
        raise UsageError(
            "--crf and --bitrate do not fit --codec png",
            "PNG pictures are stored without loss",
            "Leave them out",
        )


def parse_bitrate(text: str) -> int:
    """Bits a second of a text such as "2500k", "4M" or "800000". Raises UsageError."""
    factor = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    digits = text[:-1] if factor > 1 else text
    try:
        value = float(digits) * factor
        if not BIT_RATES[0] <= value <= BIT_RATES[1]:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--bitrate {text[:40]} cannot be used",
            "it is no number of bits a second from 50k to 200M",
            "Write for instance --bitrate 4M",
        ) from None
    return round(value)


def _checked_codec(name: str, suffix: str, alpha: bool) -> Codec:
    if name not in CODECS:
        raise UsageError(f"unknown codec '{name[:40]}'", fix=f"Use {', '.join(CODECS)} or {PNG}")
    if name not in CONTAINERS[suffix]:
        fitting = [known for known, codecs in CONTAINERS.items() if name in codecs]
        raise UsageError(
            f"a {suffix} file holds no {name} video here",
            f"it holds {', '.join(CONTAINERS[suffix])}",
            f"Choose another --codec, or name the file with {' or '.join(fitting)}",
        )
    if alpha and (not CODECS[name].alpha_pixels or ALPHA_CODECS.get(suffix) != name):
        raise UsageError(
            f"a {suffix} file with {name} video holds no transparency",
            fix="Write a .mov (ProRes 4444) or .webm (VP9) file, or pictures with --codec png",
        )
    return CODECS[name]


def _with_quality(name: str, codec: Codec, crf: int | None) -> dict[str, str]:
    if crf is not None and codec.crf is None:
        raise UsageError(
            f"--crf does not fit --codec {name}", "it has a fixed quality", "Leave it out"
        )
    if crf is not None and not 0 <= crf <= codec.crf_max:
        raise UsageError(
            f"--crf {crf} is out of range",
            f"{name} has 0 (best) to {codec.crf_max}",
            f"The default is {codec.crf}",
        )
    quality = codec.crf if crf is None else crf
    return {**codec.options, **({} if quality is None else {"crf": str(quality)})}


def _without_quality(codec: Codec) -> dict[str, str]:
    return {name: value for name, value in codec.options.items() if name != "b:v"}


def _checked_bitrate(name: str, codec: Codec, settings: VideoSettings) -> int:
    if settings.crf is not None:
        raise UsageError("--crf and --bitrate were given", "each sets the size", "Give one")
    if codec.crf is None:
        raise UsageError(
            f"--bitrate does not fit --codec {name}", "it has a fixed quality", "Leave it out"
        )
    assert settings.bitrate is not None
    return settings.bitrate
