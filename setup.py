"""Builds the native rasterizer and the native renderer at install.

Everything else about the package is in pyproject.toml. The C++ sources are in being/splat/cpu and
being/inference/backends/cpu. Each source becomes one library for each instruction set; the best
that the processor supports is chosen when loading. No headers of Python or torch are used, so the
wheel serves every Python version. Without a C++ compiler the package installs all the same and
renders with the slow torch rasterizer.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

# Library stems, as those that load them name them, and their sources.
SOURCES = {
    "being.splat.cpu._splat": "being/splat/cpu/rasterizer.cpp",
    "being.inference.backends.cpu._head": "being/inference/backends/cpu/head.cpp",
    "being.inference.backends.cpu._i420": "being/inference/backends/cpu/i420.cpp",
}
HEADERS = sorted(
    str(path)
    for folder in ("splat/cpu", "inference/backends/cpu")
    for path in Path("being", folder).glob("*.h")
)
COMMON = [
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-shared",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-Wall",
    "-Wextra",
]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512"]
# Names as in LIBRARIES of being/splat/cpu/library.py and being/inference/backends/cpu/library.py.
TARGETS = {"x86_64_v4": AVX512, "x86_64_v3": AVX2, "baseline": []}
AVX512_BF16 = [*AVX512, "-mavx512bf16"]
BFLOAT16 = {
    "x86_64_v4_amx": [*AVX512_BF16, "-mamx-tile", "-mamx-bf16"],
    "x86_64_v4_bf16": AVX512_BF16,
}


def targets(stem: str) -> dict[str, list[str]]:
    """Return the instruction sets worth building for this machine, with their compiler flags."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return {"baseline": []}
    return {**BFLOAT16, **TARGETS} if stem.endswith("_head") else TARGETS


def compiler() -> list[str] | None:
    """Return the C++ compiler as a command, from CXX or the usual names, or None."""
    for command in (os.environ.get("CXX", ""), "g++", "clang++", "c++"):
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    return None


class BuildRasterizer(build_ext):
    """Compiles plain shared libraries; a failure is told in one line and does not stop the
    installation.
    """

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extensions(self) -> None:
        command = compiler()
        if command is None:
            return give_up(
                "there is no C++ compiler; install one (`apt-get install g++`) and install again"
            )
        running = [self.start(command, ext) for ext in self.extensions]
        reasons, built = {}, set()
        for target, process in running:
            errors = process.communicate()[1].strip()
            made, folder = Path(f"{target}.new"), target.parent
            if process.returncode:
                made.unlink(missing_ok=True)
                target.unlink(missing_ok=True)
                lines = errors.splitlines() or [f"exit status {process.returncode}"]
                error = next((x for x in lines if "error" in x), lines[-1])
                reasons[folder] = f"{target.name}: {command[0]}: {error}"
            else:
                made.replace(target)  # at once: a running process may have the old one loaded
                built.add(folder)
        for folder, reason in reasons.items():
            if folder in built:  # an older compiler does not know every instruction set
                print(
                    f"not built for one instruction set, another will serve: {reason}",
                    file=sys.stderr,
                )
            else:
                give_up(reason)

    def start(self, command: list[str], ext: Extension) -> tuple[Path, subprocess.Popen]:
        """Return the library to be and the compiler at work on it."""
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        words = [
            *command,
            *COMMON,
            *ext.extra_compile_args,
            *ext.sources,
            "-o",
            f"{target}.new",
            "-pthread",
        ]
        print(shlex.join(words))
        return target, subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def give_up(reason: str) -> None:
    """Say in one line why rendering will be slow."""
    print(
        f"the native rasterizer and renderer are not built, rendering will be slow: {reason}",
        file=sys.stderr,
    )


class AnyPythonWheel(bdist_wheel):
    """The libraries depend on the system and processor, but not on the Python version."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            f"{stem}_{name}", [source], depends=HEADERS, extra_compile_args=flags, optional=True
        )
        for stem, source in SOURCES.items()
        for name, flags in targets(stem).items()
    ],
    cmdclass={"build_ext": BuildRasterizer, "bdist_wheel": AnyPythonWheel},
)
