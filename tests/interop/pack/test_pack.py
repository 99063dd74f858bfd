"""Pack and unpack: the dataset stays the same, damaged packs are refused and leave no files."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn_dataset import FRAMES
from program import being

from being.data.dataset import Dataset
from being.data.frames import read_image
from being.errors import BeingError, InputRejected
from being.interop.pack import codecs, packing, unpacking
from being.interop.pack.packing import INDEX, pack
from being.interop.pack.unpacking import packed_name, unpack
from being.preprocess.pipeline import preprocess_video
from being.preprocess.steps import FORMER_STEP_NAMES


@pytest.fixture
def dataset(drawn_dataset: Path) -> Path:
    """A dataset of a drawn head, as `preprocess_video` writes it."""
    return drawn_dataset


@pytest.fixture(scope="module")
def packed_scene(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(scene, tmp_path_factory.mktemp("packed") / "scene.pack")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_dataset_with_its_source_comes_back_bit_for_bit(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = pack(dataset, tmp_path / "drawn.pack")
    back = unpack(file, tmp_path / "back")
    before, after = contents(dataset), contents(back)
    assert set(before) == set(after)
    assert [name for name in before if before[name] != after[name] and name != "report.html"] == []
    assert "bit for bit" in capsys.readouterr().out
    assert file.stat().st_size < 0.25 * sum(map(len, before.values()))
    assert Dataset.open(back).manifest["consent"]["statement"] == "nobody's face"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_without_its_source_only_frames_and_plates_change_a_little(
    dataset: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(dataset, tmp_path / "copy")
    for kept in copy.glob("source.*"):
        kept.unlink()
    back = unpack(pack(copy, tmp_path / "drawn.pack"), tmp_path / "back")
    before, after = contents(copy), contents(back)
    other = {name for name in before if before[name] != after[name]} - {
        "dataset.json",
        "report.html",
    }
    assert set(before) == set(after)
    assert other and all(name.startswith(("ori_imgs/", "torso_imgs/", "bc.")) for name in other)
    for i in range(0, FRAMES, 10):
        one, two = (
            read_image(folder / f"ori_imgs/{i}.jpg").astype(float) for folder in (copy, back)
        )
        assert np.abs(one - two).mean() < 1.5
    manifest = json.loads((back / "dataset.json").read_text())
    assert manifest["unpacked"] == {"other bytes": ["frames", "plates"]}
    assert manifest["consent"] == json.loads((copy / "dataset.json").read_text())["consent"]


def test_altered_source_is_not_used(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(dataset, tmp_path / "copy")
    kept = next(copy.glob("source.*"))
    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 1
    kept.unlink()
    kept.write_bytes(data)
    unpack(pack(copy, tmp_path / "drawn.pack"), tmp_path / "back")
    assert "the source video was altered" in capsys.readouterr().out


def test_dataset_of_another_system_keeps_its_plates(
    scene: Path, packed_scene: Path, tmp_path: Path
) -> None:
    before, after = contents(scene), contents(unpack(packed_scene, tmp_path / "back"))
    assert set(before) == set(after)
    for name in before:
        if name.endswith(".png"):  # other writers give other bytes of the same image
            assert np.array_equal(read_image(scene / name), read_image(tmp_path / "back" / name)), (
                name
            )
        elif not name.startswith("ori_imgs/") and name != "dataset.json":
            assert before[name] == after[name], name


def rewritten(
    change: Callable[[dict], object] | None = None,
    more: dict[str, bytes] | None = None,
    squeeze: bool = False,
) -> Callable[[Path, Path], None]:
    """A function that copies a pack with a changed index and more parts."""

    def write(good: Path, bad: Path) -> None:
        with (
            zipfile.ZipFile(good) as old,
            zipfile.ZipFile(
                bad, "w", zipfile.ZIP_DEFLATED if squeeze else zipfile.ZIP_STORED
            ) as new,
        ):
            for name in old.namelist():
                if name != INDEX:
                    new.writestr(name, old.read(name))
            index = json.loads(old.read(INDEX))
            if change:
                change(index)
            for name, content in (more or {}).items():
                new.writestr(name, content)
            new.writestr(INDEX, json.dumps(index))

    return write


def flipped(share: float) -> Callable[[Path, Path], None]:
    def write(good: Path, bad: Path) -> None:
        data = bytearray(good.read_bytes())
        data[int(share * len(data))] ^= 0x55
        bad.write_bytes(data)

    return write


def cut(share: float) -> Callable[[Path, Path], None]:
    return lambda good, bad: (
        bad.write_bytes(good.read_bytes()[: int(share * good.stat().st_size)]) and None
    )


def shifted(good: Path, bad: Path) -> None:
    """State a later directory than the true one: all parts seem to lie before the file."""
    data = bytearray(good.read_bytes())
    at = data.rindex(b"PK\5\6") + 16  # the offset of the directory in the end record
    offset = int.from_bytes(data[at : at + 4], "little")
    data[at : at + 4] = (2 * offset).to_bytes(4, "little")
    bad.write_bytes(data)


def entry(index: dict, kind: str) -> dict:
    return next(entry for entry in index["entries"] if entry["kind"] == kind)


def named(name: str) -> Callable[[dict], object]:
    return lambda index: entry(index, "files")["files"][0].__setitem__(0, name)


def swapped(index: dict) -> None:
    """Swap two parts: every checksum of the zip still holds."""
    one, two = entry(index, "files"), entry(index, "pictures")
    one["part"], two["part"] = two["part"], one["part"]


@pytest.mark.parametrize(
    "spoil",
    [
        cut(0),
        cut(0.1),
        cut(0.6),
        cut(0.999),
        *map(flipped, (0.05, 0.3, 0.5, 0.7, 0.9)),
        shifted,
        lambda good, bad: bad.write_text("not a pack"),
        lambda good, bad: bad.write_bytes(good.read_bytes() + b"x" * 70_000),
        rewritten(lambda index: index.update(format="other")),
        rewritten(lambda index: index.update(version=99)),
        rewritten(lambda index: index.pop("entries")),
        rewritten(lambda index: index.update(entries="none")),
        rewritten(lambda index: index.update(frames=10**9)),
        rewritten(lambda index: index.update(frames=index["frames"] - 1)),
        rewritten(lambda index: index.update(width=-4)),
        rewritten(lambda index: index.update(manifest="{}")),
        rewritten(swapped),
        rewritten(named("../escaped")),
        rewritten(named("/tmp/escaped")),
        rewritten(named("a/../../escaped")),
        rewritten(named("..\\escaped")),
        rewritten(named("C:escaped")),
        rewritten(named(".hidden")),
        rewritten(named("")),
        rewritten(named("dataset.json")),
        rewritten(lambda index: entry(index, "files")["files"].append(["more", 10**12])),
        rewritten(lambda index: entry(index, "arrays")["arrays"][0].update(shape=[10**6, 10**6])),
        rewritten(lambda index: entry(index, "arrays")["arrays"][0].update(dtype="|O")),
        rewritten(lambda index: entry(index, "arrays")["arrays"][0].update(dtype="what")),
        rewritten(lambda index: entry(index, "pictures").update(folder="../../escaped")),
        rewritten(lambda index: entry(index, "pictures").update(sha256="0" * 64)),
        rewritten(
            lambda index: index.update(clip={"kind": "source", "suffix": "/../x"}),
            {"source": b"no"},
        ),
        rewritten(
            lambda index: index.update(clip={"kind": "source", "suffix": ".mp4"}), {"source": b"no"}
        ),
        rewritten(squeeze=True, more={"bomb": b"0" * 1_000_000}),
    ],
)
def test_damaged_pack_is_refused_and_leaves_no_files(
    spoil: Callable[[Path, Path], None], packed_scene: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.pack"
    spoil(packed_scene, bad)
    with pytest.raises(InputRejected) as refusal:
        unpack(bad, tmp_path / "deep" / "down" / "back")
    assert "bad.pack" in str(refusal.value) and "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pack"]
    assert not (tmp_path.parent / "escaped").exists() and not Path("/tmp/escaped").exists()


def test_unpacked_dataset_is_named_after_the_subject(
    packed_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its folder and the folder of its runs have one name."""
    monkeypatch.setenv("BEING_HOME", str(tmp_path / "home"))
    file = shutil.copy(packed_scene, tmp_path / "sent on Monday.being")
    result = being("data", "unpack", file)
    assert result.exit_code == 0, result.stderr
    assert Dataset.open(tmp_path / "home/data/scene").name == "scene"

    def rename(index: dict) -> None:
        index["manifest"] = index["manifest"].replace('"scene"', '"../scene"')

    rewritten(rename)(packed_scene, bad := tmp_path / "bad.pack")
    with pytest.raises(InputRejected, match="cannot be the name of a folder"):
        packed_name(bad)


def test_missing_packs_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pack", tmp_path):
        with pytest.raises(InputRejected):
            unpack(path, tmp_path / "back")
    with pytest.raises(InputRejected, match="not a dataset"):
        pack(tmp_path, tmp_path / "out.pack")


def test_existing_files_are_kept(scene: Path, packed_scene: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(BeingError, match="not a packed dataset"):
        pack(scene, tmp_path / "thesis.txt")
    with pytest.raises(BeingError):
        unpack(packed_scene, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
    shutil.copy(packed_scene, tmp_path / "old.pack")
    assert pack(scene, tmp_path / "old.pack").stat().st_size > 0


@pytest.mark.parametrize("where", ["pack", "unpack"])
def test_full_disk_leaves_no_files(
    where: str, scene: Path, packed_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        *((packing, "encode_clip") if where == "pack" else (unpacking, "write_image")), full
    )
    with pytest.raises(BeingError, match="No space left"):
        pack(scene, tmp_path / "deep" / "a.pack") if where == "pack" else unpack(
            packed_scene, tmp_path / "deep" / "b"
        )
    assert not list(tmp_path.iterdir())


def test_arrays_keep_every_bit() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(-(2**31), 2**31, (70, 90), dtype=np.int64).astype(np.int32).view(np.float32)
    smooth = (np.sin(np.arange(80)[:, None] * 0.1 + np.arange(300)) + 0.01).astype(np.float32)
    holes = smooth.copy()
    holes[3:5] = np.nan
    for values in (
        bits,
        smooth,
        holes,
        holes.reshape(80, 100, 3),
        np.arange(7),
        np.array(["a", "bc"]),
        bits[0],
        np.zeros((0, 3), np.float32),
        np.float32(2.5),
        np.full((4, 2), -0.0, np.float32),
    ):
        values = np.asarray(values)
        facts, parts = codecs.encode_array(values)
        back = codecs.decode_array(json.loads(json.dumps(facts)), parts)
        assert back.dtype == values.dtype
        assert back.shape == values.shape
        assert back.tobytes() == values.tobytes()
    mixed = rng.standard_normal((200, 3)) @ rng.standard_normal((3, 300))
    facts, parts = codecs.encode_array(mixed.astype(np.float32))
    assert facts["codec"] == "rank" and sum(map(len, parts.values())) < 0.4 * 4 * mixed.size


def test_decompression_stops_at_the_stated_size() -> None:
    bomb = codecs.compress(b"0" * 10_000_000)
    for size in (10, 9_999_999, 10_000_001):
        with pytest.raises(codecs.DamagedPack):
            codecs.decompress(bomb, size)


@pytest.mark.shared
def test_fifty_second_clip_packs_into_thirty_megabytes(shared_dir: Path, tmp_path: Path) -> None:
    dataset = preprocess_video(
        shared_dir / "clips/address_fr_50s.mp4", tmp_path / "address", consent="test"
    )
    file = pack(dataset, tmp_path / "address.pack")
    assert file.stat().st_size <= 30e6, file.stat().st_size
    before, after = contents(dataset), contents(unpack(file, tmp_path / "back"))
    assert set(before) == set(after)
    assert [name for name in before if before[name] != after[name]] in ([], ["report.html"])


def test_steps_with_the_names_of_earlier_versions_are_compared_too(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old"
    shutil.copytree(dataset, old)
    manifest = json.loads((old / "dataset.json").read_text())
    former = {new: name for name, new in FORMER_STEP_NAMES.items()}
    manifest["steps"] = {former.get(name, name): step for name, step in manifest["steps"].items()}
    manifest["steps"]["sound"]["digest"] = "0" * 64
    (old / "dataset.json").write_text(json.dumps(manifest))
    unpack(pack(old, tmp_path / "old.pack"), tmp_path / "back")
    printed = capsys.readouterr()
    assert "not bit for bit the packed files: audio." in printed.out + printed.err
