"""Builds the native rasterizer (being/splat/cpu) at install; everything else about the package is in pyproject.toml.

One C++ source becomes one library for each instruction set; the best that the processor has is chosen when loading.
No headers of Python or torch are used, so the wheel serves every Python version. Without a C++ compiler the package
installs all the same and renders with the slow torch twin.
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

SOURCE = "being/splat/cpu/rasterizer.cpp"
HEADERS = sorted(str(path) for path in Path("being/splat/cpu").glob("*.h"))
COMMON = [
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-shared",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-Wall",
]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512"]
# Names as in LIBRARIES of being/splat/cpu/__init__.py.
TARGETS = {"x86_64_v4": AVX512, "x86_64_v3": AVX2, "baseline": []}


def targets() -> dict[str, list[str]]:
    """Return the instruction sets worth building for this machine, with their compiler flags."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        return TARGETS
    return {"baseline": []}


def compiler() -> list[str] | None:
    """Return the C++ compiler as a command, from CXX or the usual names, or None."""
    for command in (os.environ.get("CXX", ""), "g++", "clang++", "c++"):
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    return None


class BuildRasterizer(build_ext):
    """Compiles plain shared libraries; a failure is told in one line and does not stop the installation."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extensions(self) -> None:
        command = compiler()
        if command is None:
            return give_up("there is no C++ compiler; install one (`apt-get install g++`) and install again")
        running = [self.start(command, ext) for ext in self.extensions]
        for target, process in running:
            errors = process.communicate()[1].strip()
            if process.returncode:
                target.unlink(missing_ok=True)
                lines = errors.splitlines() or [f"exit status {process.returncode}"]
                give_up(f"{target.name}: {command[0]}: {next((x for x in lines if 'error' in x), lines[-1])}")

    def start(self, command: list[str], ext: Extension) -> tuple[Path, subprocess.Popen]:
        """Return the library to be and the compiler at work on it."""
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        words = [*command, *COMMON, *ext.extra_compile_args, SOURCE, "-o", str(target), "-pthread"]
        print(shlex.join(words))
        return target, subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def give_up(reason: str) -> None:
    """Say in one line why rendering will be slow."""
    print(f"the native rasterizer is not built, rendering will be slow: {reason}", file=sys.stderr)


class AnyPythonWheel(bdist_wheel):
    """The libraries depend on the system and processor, but not on the Python version."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(f"being.splat.cpu._splat_{name}", [SOURCE], depends=HEADERS, extra_compile_args=flags, optional=True)
        for name, flags in targets().items()
    ],
    cmdclass={"build_ext": BuildRasterizer, "bdist_wheel": AnyPythonWheel},
)
