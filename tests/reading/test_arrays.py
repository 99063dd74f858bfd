"""Arrays and tensors whose headers claim more than their files hold are refused, not allocated."""

from __future__ import annotations

import io
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from being.errors import InputRejected
from being.files import save_tensors
from being.reading import arrays as reading
from being.reading.arrays import load_array, load_arrays
from being.reading.tensors import load_metadata, load_pickled, load_tensors


def npy(header: str, payload: bytes = b"", version: int = 1) -> bytes:
    text = header.encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text + payload


HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000, 1000), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 10000000000000000000000000000000), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': 'x', }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '|V9', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': 'zz', 'fortran_order': False, 'shape': (1,), }",
    "{" + "(" * 3000,
    "-" * 5000,
    "{}",
    "__import__('os')",
]


@pytest.mark.parametrize("header", HEADERS)
def test_a_hostile_npy_header_is_refused(header: str, tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    file.write_bytes(npy(header, bytes(64)))
    for mapped in (False, True):
        with pytest.raises(InputRejected, match="cannot be read"):
            load_array(file, mapped=mapped)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("points.npy", npy(header, bytes(64)))
    with pytest.raises(InputRejected, match="cannot be read"):
        load_arrays(tmp_path / "a.npz", ("points",))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "|u1", "|b1", "<U5"])
def test_plain_arrays_come_back_as_they_are(order: str, dtype: str, tmp_path: Path) -> None:
    values = np.asarray(np.arange(24).reshape(2, 3, 4).astype(dtype), order=order)
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "a.npz", a=values, b=values[0], extra=values)
    for mapped in (False, True):
        read = load_array(tmp_path / "a.npy", mapped=mapped)
        assert read.dtype == values.dtype and np.array_equal(read, values)
    both = load_arrays(tmp_path / "a.npz", ("a", "b", "absent"))
    assert set(both) == {"a", "b"} and np.array_equal(both["a"], values)


def test_arrays_that_nobody_asked_for_are_not_read(tmp_path: Path) -> None:
    """A small file with an array that expands to 300 MB."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "a.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", b"ab")
        )
        with archive.open("bomb.npy", "w", force_zip64=True) as bomb:
            bomb.write(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (300000000,), }"))
            for _ in range(300):
                bomb.write(bytes(1_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert list(load_arrays(tmp_path / "a.npz", ("a",))) == ["a"]
    with pytest.raises(InputRejected, match="expands beyond"):
        load_arrays(tmp_path / "a.npz", ("bomb",))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_an_npz_file_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(1000.0))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[500] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputRejected, match="CRC"):
        load_arrays(tmp_path / "a.npz", ("a",))


def test_limits_are_those_of_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs/limits.md").read_text()
    assert f"{reading.EXPANSION_MAX} times" in text and f"{reading.EXPANSION_FREE >> 20} MB" in text


HOSTILE_TENSORS = {
    "stride 0": torch.zeros(1).expand(10**9),
    "stride 0 in one axis": torch.zeros(3, 1).expand(3, 10**8),
    "sparse": torch.zeros(2, 2).to_sparse(),
    "without a storage": torch.zeros(10**6, 10**6, device="meta"),
    "complex": torch.zeros(2, dtype=torch.complex64),
    "quantized": torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.quint8),
}


@pytest.mark.parametrize("case", HOSTILE_TENSORS)
def test_a_tensor_that_claims_more_than_its_file_holds_is_refused(
    case: str, tmp_path: Path
) -> None:
    for value in (HOSTILE_TENSORS[case], {"a": [HOSTILE_TENSORS[case]]}):
        torch.save(value, tmp_path / "a.pt")
        with pytest.raises(InputRejected, match="plain tensors"):
            load_pickled(tmp_path / "a.pt")


def test_a_compressed_torch_file_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(10**6)}, buffer)
    with (
        zipfile.ZipFile(buffer) as source,
        zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in source.namelist():
            packed.writestr(name, source.read(name))
    with pytest.raises(InputRejected, match="compressed"):
        load_pickled(tmp_path / "a.pt")


def test_plain_torch_files_of_both_formats_are_read(tmp_path: Path) -> None:
    value = {"a": torch.arange(6.0).reshape(2, 3).T, "b": [1, "x"], "c": torch.zeros(0, 3)}
    for new in (True, False):
        torch.save(value, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
        assert torch.equal(load_pickled(tmp_path / "a.pt")["a"], value["a"])


def test_safetensors_of_odd_types_or_values_are_refused(tmp_path: Path) -> None:
    for value in (torch.tensor([torch.nan]), torch.zeros(2, dtype=torch.float8_e4m3fn)):
        save_file({"a": value}, tmp_path / "a.safetensors")
        with pytest.raises(InputRejected, match="holds values"):
            load_tensors(tmp_path / "a.safetensors")


def test_a_file_that_cannot_grow_in_safetensors_is_an_os_error(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    file = tmp_path / "a.safetensors"
    save_tensors(file, {"a": torch.ones(2)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_tensors(file, {"a": torch.zeros(10**6)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [*tmp_path.iterdir()] == [file] and torch.equal(
        load_tensors(file)["a"], torch.ones(2)
    ), "the old file stays"


def test_the_texts_of_a_safetensors_file_are_read_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(2)}, file, {"facts": "{}"})
    assert load_metadata(file) == {"facts": "{}"}
    save_file({"a": torch.zeros(2)}, file)
    assert load_metadata(file) == {}
    deep = b'{"__metadata__":' + b"[" * 10**5
    for content in (b"", b"\xff" * 8, deep, b"[]", b'{"__metadata__":{"facts":3}}', b"\xff"):
        header = content if len(content) in (0, 8) else len(content).to_bytes(8, "little") + content
        file.write_bytes(header)
        with pytest.raises(InputRejected, match="cannot be read"):
            load_metadata(file)
