"""A disk whose power can be cut: an ext4 file system in a file, mounted as a folder.

`cut_power` shuts the file system down without its log: what is not on the disk at that moment is
lost, and every later call fails. Mounted again, it holds what a machine finds after a power cut.
Needs Linux, root, loop devices and mkfs.ext4; `missing` says which of these is not there.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

SIZE = 2**30  # of the file system, in bytes; its file is sparse
SHUT_DOWN = 0x8004587D  # the ioctl EXT4_IOC_SHUTDOWN
WITHOUT_LOG = 2  # its flag EXT4_GOING_FLAGS_NOLOGFLUSH
# Without auto_da_alloc, ext4 does not save the content of a file that is renamed unsynced. With
# data=writeback, a file may have its length before its content.
MOUNTS = (
    "data=ordered",
    "data=ordered,noauto_da_alloc,commit=1",
    "data=writeback,noauto_da_alloc,commit=1",
)
PATIENCE_S = 20  # until a file system that was used is free


def missing() -> str:
    """What this machine lacks for such a disk; "" when nothing."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, to mount a file system"
    for program in ("mkfs.ext4", "losetup", "mount", "umount"):
        if not _program(program):
            return f"needs {program}"
    found = subprocess.run([_program("losetup"), "--find"], capture_output=True, text=True)
    return "" if found.returncode == 0 else f"needs a loop device: {found.stderr.strip()}"


def cut_power(folder: Path, commit: bool = False) -> None:
    """Shut the file system down that is mounted at `folder`, and lose its log.

    commit: save a file beside all others first. This brings all names to the disk, and not what
    the other files hold.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if commit:
            neighbour = os.open("neighbour", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
            os.write(neighbour, b"saved")
            os.fdatasync(neighbour)
            os.close(neighbour)
        fcntl.ioctl(descriptor, SHUT_DOWN, struct.pack("I", WITHOUT_LOG))
    finally:
        os.close(descriptor)


class LoopDisk:
    """An ext4 file system in the file `disk.ext4` of a folder, mounted at `path`."""

    def __init__(self, folder: Path):
        self.path, self._image = folder / "disk", folder / "disk.ext4"
        self._options = ""
        self.path.mkdir(parents=True)

    def format(self, options: str) -> None:
        """Begin with an empty file system, mounted with these options."""
        self.unmount()
        self._image.unlink(missing_ok=True)
        with open(self._image, "wb") as file:
            file.truncate(SIZE)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._options = options
        self._mount()

    def save(self) -> None:
        """Bring everything to the disk."""
        _run("sync", "--file-system", str(self.path))

    def restart(self) -> None:
        """Mount the file system again, after a power cut and the end of all processes on it."""
        self.unmount()
        self._mount()

    def unmount(self) -> None:
        """Take the file system away; waits for processes that use it."""
        deadline = time.monotonic() + PATIENCE_S
        while os.path.ismount(self.path):
            done = subprocess.run(
                [_program("umount"), str(self.path)], capture_output=True, text=True
            )
            if done.returncode and time.monotonic() > deadline:
                raise AssertionError(f"cannot unmount: {done.stderr}")
            time.sleep(0.05 if done.returncode else 0)

    def close(self) -> None:
        """Take the file system away at once. Its loop device follows when no process uses it."""
        if os.path.ismount(self.path):
            _run("umount", "--lazy", str(self.path))

    def _mount(self) -> None:
        _run("mount", "-o", f"loop,{self._options}", str(self._image), str(self.path))


def _program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""


def _run(name: str, *arguments: str) -> None:
    done = subprocess.run([_program(name), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{name}: {done.stderr.strip()}"
