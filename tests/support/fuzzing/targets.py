"""Every parser of outside files: a valid input, how it is changed, and how it is read."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import shutil
import tarfile
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.fuzzing import mutations as m

Read = Callable[[], object]
Mutate = Callable[[random.Random, bytes], bytes]


class Target:
    """One parser. The folder `valid` holds a valid container, of which one file is changed."""

    # Errors of the parser that are no BeingError because a caller turns them into one.
    refusals: tuple[type[BaseException], ...] = ()

    def __init__(self, valid: Path):
        self.valid = valid
        valid.mkdir(parents=True)
        self.make()
        self._changed: tuple[Path, bytes] | None = None

    def make(self) -> None:
        """Write the valid container."""

    def read(self, place: Path) -> object:
        """Read the container with the parser; `place` is an empty folder for what it writes."""
        raise NotImplementedError

    def victims(self) -> dict[str, Mutate]:
        """The files that are changed, by name in the container, with their mutation."""
        raise NotImplementedError

    def prepare(self, rng: random.Random, place: Path) -> Read:
        """Change one file; returns the call that reads the container."""
        victims = self.victims()
        name = rng.choice(list(victims))
        path = self.valid / name
        content = path.read_bytes()
        self._changed = path, content
        path.write_bytes(victims[name](rng, content))
        self.settle(rng, name)
        return lambda: self.read(place)

    def settle(self, rng: random.Random, name: str) -> None:
        """Bring other files in line with the changed one, so that the parser gets to read it."""

    def restore(self) -> None:
        """Undo the change."""
        if self._changed is not None:
            path, content = self._changed
            path.write_bytes(content)

    def check_valid(self) -> None:
        """Read the valid container: the parser must accept it."""
        place = self.valid.parent / "valid-case"
        place.mkdir()
        self.read(place)
        shutil.rmtree(place)


def _json(rng: random.Random, content: bytes) -> bytes:
    return m.json_bytes(rng, json.loads(content))


def _text(rng: random.Random, content: bytes) -> bytes:
    return m.changed_text(rng, content.decode())


def _npy(rng: random.Random, content: bytes) -> bytes:
    return m.npy_bytes(rng, np.load(io.BytesIO(content)))


def _npz(rng: random.Random, content: bytes) -> bytes:
    with np.load(io.BytesIO(content)) as arrays:
        return m.npz_bytes(rng, {name: arrays[name] for name in arrays.files})


def _torch(rng: random.Random, content: bytes) -> bytes:
    import torch

    return m.torch_bytes(rng, torch.load(io.BytesIO(content), weights_only=True))


class Text(Target):
    """A text that is given to the parser directly, without a file."""

    seeds: tuple[str, ...] = ()

    def prepare(self, rng: random.Random, place: Path) -> Read:
        text = m.changed_text(rng, rng.choice(self.seeds)).decode("utf-8", "surrogateescape")
        return lambda: self.read_text(text)

    def read_text(self, text: str) -> object:
        raise NotImplementedError

    def check_valid(self) -> None:
        for seed in self.seeds:
            self.read_text(seed)


# --- settings


class ConfigYaml(Target):
    def make(self) -> None:
        import yaml

        from being.config import Config

        text = yaml.safe_dump(Config().to_dict(), sort_keys=False)
        (self.valid / "c.yaml").write_text(f"_base_: base.yaml\n{text}")
        (self.valid / "base.yaml").write_text("model: &m {n_head: 2}\ntrain: {fine: {steps: 5}}\n")

    def victims(self) -> dict[str, Mutate]:
        return {"c.yaml": _text, "base.yaml": _text}

    def read(self, place: Path) -> object:
        from being.config import describe, load

        return describe(load(self.valid / "c.yaml", environment={}))


class ConfigPython(Target):
    def make(self) -> None:
        (self.valid / "c.py").write_text(
            "ModelHiddenParams = dict(\n kplanes_config = {'grid_dimensions': 2,\n"
            " 'output_coordinate_dim': 32, 'resolution': [64, 64, 64]},\n multires = [1, 2],\n"
            " net_width = 128, n_head=2, drop_prob=0.2)\n"
            "OptimizationParams = dict(iterations = 10_000, batch_size=32,\n"
            " densify_grad_threshold_coarse = 0.001)\n"
        )

    def victims(self) -> dict[str, Mutate]:
        return {"c.py": _text}

    def read(self, place: Path) -> object:
        from being.config import load

        return load(self.valid / "c.py", environment={})


class Override(Text):
    seeds = (
        "train.fine.steps=500",
        "model.plane_scales=[1, 2]",
        "train.rate.means=[1e-4, 1e-6]",
        "data.bfm=x.mat",
        "train.seed=3",
        "model.d_model=64",
        "train.mixed_precision=true",
    )

    def read_text(self, text: str) -> object:
        from being.config import load

        return load(None, [text], environment={})

    def prepare(self, rng: random.Random, place: Path) -> Read:
        from being.config import load

        if rng.random() < 0.7:
            return super().prepare(rng, place)
        value = m.changed_text(rng, "500").decode("utf-8", "surrogateescape")
        return lambda: load(None, environment={"BEING_TRAIN__SEED": value})


# --- datasets


class DatasetTarget(Target):
    def make(self) -> None:
        from scene import write_scene

        write_scene(self.valid / "d", frames=22)
        file = self.valid / "d/dataset.json"
        manifest = json.loads(file.read_text())
        manifest |= {
            "consent": {"confirmed": True, "statement": "nobody"},
            "findings": [{"check": "c", "level": "ok", "what": "w", "at": [[0, 1.5]], "fix": ""}],
            "steps": {"frames": {"digest": "0" * 64}},
            "missing": [3],
            "source": {
                "file": "a.mp4",
                "sha256": "0" * 64,
                "seconds": 0.88,
                "crop": [0, 0, 48],
                "frames": [[0, 22]],
                "starts": [0.0],
            },
        }
        file.write_text(json.dumps(manifest))

    def open(self) -> Any:
        from being.data.dataset import Dataset

        return Dataset.open(self.valid / "d")


class DatasetManifest(DatasetTarget):
    def victims(self) -> dict[str, Mutate]:
        return {"d/dataset.json": _json}

    def read(self, place: Path) -> object:
        from being.data.consent import consent_note

        dataset = self.open()
        consent_note(dataset.manifest.get("consent"))
        dataset.longest_face_run(500)
        for encoder in dataset.manifest["features"]:
            dataset.features(encoder)
        return dataset.bounds, dataset.split(), dataset.split(0.2, 3.0)


class DatasetArrays(DatasetTarget):
    def victims(self) -> dict[str, Mutate]:
        features = next((self.valid / "d").glob("aud_*.npy")).name
        return {
            "d/landmarks.npz": _npz,
            "d/mesh.npz": _npz,
            f"d/{features}": _npy,
        }

    def read(self, place: Path) -> object:
        from being.data.expression_channels import load_expression
        from being.preprocess.report import landmark_confidence

        dataset = self.open()
        load_expression(dataset)
        landmark_confidence(dataset)
        return (
            dataset.landmarks,
            dataset.mesh,
            dataset.features(next(iter(dataset.manifest["features"]))),
        )


class DatasetTrack(DatasetTarget):
    def victims(self) -> dict[str, Mutate]:
        return {"d/track_params.pt": _torch}

    def read(self, place: Path) -> object:
        dataset = self.open()
        return dataset.world_to_camera, dataset.focal


class DatasetTable(DatasetTarget):
    def victims(self) -> dict[str, Mutate]:
        return {"d/au.csv": _text}

    def read(self, place: Path) -> object:
        dataset = self.open()
        return dataset.action_units(), dataset.blink


class DatasetImages(DatasetTarget):
    def victims(self) -> dict[str, Mutate]:
        return {
            name: m.image_bytes
            for name in ("d/ori_imgs/0.jpg", "d/parsing/0.png", "d/torso_imgs/0.png", "d/bc.jpg")
        }

    def read(self, place: Path) -> object:
        from being.data.clip import load_clip
        from being.data.frames import read_image

        dataset = self.open()
        for name in ("ori_imgs/0.jpg", "parsing/0.png", "torso_imgs/0.png", "bc.jpg"):
            read_image(dataset.path / name)
        encoder = next(iter(dataset.manifest["features"]))
        return load_clip(dataset, 32, encoder, index=np.array([0]), channel_set="blink")


class Pack(Target):
    def make(self) -> None:
        from scene import write_scene

        from being.interop.pack.packing import pack

        pack(write_scene(self.valid / "d", frames=22), self.valid / "d.being")

    def victims(self) -> dict[str, Mutate]:
        return {"d.being": m.pack_bytes}

    def read(self, place: Path) -> object:
        from being.console import console
        from being.interop.pack.unpacking import unpack

        console.quiet = True
        return unpack(self.valid / "d.being", place / "out")


# --- tables


class OpenFace(Target):
    def make(self) -> None:
        names = ["frame", "face_id", "timestamp", "confidence", "success", "AU01_r", "AU45_r"]
        rows = [[i + 1, 0, i / 30, 0.98, 1, 0.5, i % 3] for i in range(30)]
        with open(self.valid / "a.csv", "w", newline="") as file:
            csv.writer(file).writerows([[f" {name}" for name in names], *rows])

    def victims(self) -> dict[str, Mutate]:
        return {"a.csv": _text}

    def read(self, place: Path) -> object:
        from being.face.openface import read_openface
        from being.interop.family.layout import read_action_units

        try:
            read_action_units(self.valid / "a.csv")
        finally:
            table = read_openface(self.valid / "a.csv", 25, 1.0)
        return table


class Curves(Target):
    def make(self) -> None:
        rows = [["time", "smile", "gaze_up"], *([i / 25, 0.1, -0.2] for i in range(9))]
        with open(self.valid / "c.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
        (self.valid / "c.json").write_text(json.dumps({"smile": [0.1, 0.2], "time": [0, 0.5]}))
        rows = [["frame", " timestamp", " confidence", " success", " AU12_r", " AU45_r"]]
        rows += [[i + 1, f" {i / 30:.3f}", " 0.98", " 1", " 1.5", " 0.3"] for i in range(9)]
        with open(self.valid / "o.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
        rows = [["Timecode", "BlendShapeCount", "JawOpen", "EyeLookInLeft"]]
        rows += [[f"23:59:59:{i + 54:02d}.250", 61, 0.5, 0.25] for i in range(6)]
        with open(self.valid / "l.csv", "w", newline="") as file:
            csv.writer(file).writerows([*rows, ["00:00:00:00.250", 61, 0.5, 0.25]])

    def victims(self) -> dict[str, Mutate]:
        return {"c.csv": _text, "c.json": _json, "o.csv": _text, "l.csv": _text}

    def read(self, place: Path) -> object:
        from being.data.expression_channels import BLINK_ONLY
        from being.inference.animation.curve_channels import driven_channels
        from being.inference.animation.curve_files import read_curves

        curves = [read_curves(self.valid / f"{name}.csv") for name in "col"]
        driven = driven_channels(curves[2], BLINK_ONLY, has_mouth_code=True)
        json_curves = read_curves(self.valid / "c.json")
        return [found.at_frames(0, 9) for found in (*curves, json_curves, driven.curves)]


# --- the model family


class Family(Target):
    def make(self) -> None:
        from family_folder import truth, write_folder

        write_folder(self.valid / "May", truth(26))
        shutil.copy(self.valid / "May/track_params.pt", self.valid / "May/bundle_adjustment.pt")

    def victims(self) -> dict[str, Mutate]:
        return {
            "May/transforms_train.json": _json,
            "May/transforms_val.json": _json,
            "May/track_params.pt": _torch,
            "May/bundle_adjustment.pt": _torch,
            "May/aud_ds.npy": _npy,
            "May/au.csv": _text,
            "May/ori_imgs/3.lms": _text,
            "May/ori_imgs/0.jpg": m.image_bytes,
            "May/parsing/0.png": m.image_bytes,
        }

    def read(self, place: Path) -> object:
        from being.interop.family import layout
        from being.interop.family.alignment import align
        from being.interop.family.import_steps import centre_square

        folder = layout.read_folder(self.valid / "May")
        layout.read_landmarks(folder.landmarks[3])
        assert folder.action_units is not None
        layout.read_action_units(folder.action_units)
        for features in folder.features:
            np.isfinite(layout.load_array(features.file)).all()
        return align(folder), centre_square(folder)


class Ply(Target):
    def make(self) -> None:
        from trained_gaussiantalker import random_gaussians

        from being.interop.ply import write_ply

        write_ply(self.valid / "a.ply", random_gaussians(1, 20))
        content = (self.valid / "a.ply").read_bytes()
        header, _, body = content.partition(b"end_header\n")
        numbers = np.frombuffer(body, "<f4").reshape(20, -1)
        rows = "\n".join(" ".join(f"{value:g}" for value in row) for row in numbers)
        text = header.decode().replace("binary_little_endian", "ascii")
        (self.valid / "t.ply").write_text(f"{text}end_header\n{rows}\n")

    def victims(self) -> dict[str, Mutate]:
        def binary(rng: random.Random, content: bytes) -> bytes:
            header, end, body = content.partition(b"end_header\n")
            if rng.random() < 0.5:
                return m.changed_text(rng, header.decode()) + end + body
            return m.changed_bytes(rng, content)

        return {"a.ply": binary, "t.ply": _text}

    def read(self, place: Path) -> object:
        from being.interop.ply import read_ply

        return [read_ply(self.valid / name) for name in ("a.ply", "t.ply")]


class Trained(Target):
    def make(self) -> None:
        from trained_gaussiantalker import write_trained

        write_trained(self.valid / "May")
        np.savez(
            self.valid / "May/aud_projection.npz", matrix=np.eye(29, 29, dtype="f"), encoder="hama"
        )

    def victims(self) -> dict[str, Mutate]:
        return {
            "May/cfg_args": _text,
            "May/point_cloud/iteration_10000/deformation.pth": _torch,
            "May/aud_projection.npz": _npz,
        }

    def read(self, place: Path) -> object:
        from being.interop.gaussiantalker.checkpoint import read_checkpoint
        from being.interop.gaussiantalker.training_clip import _read_projection

        _read_projection([self.valid / "May"], 29)
        return read_checkpoint(self.valid / "May").source


# --- avatars and runs


class AvatarBundle(Target):
    def make(self) -> None:
        from tiny_avatar import write_tiny_avatar

        write_tiny_avatar(self.valid / "a", "hama", 7)

    def victims(self) -> dict[str, Mutate]:
        return {
            "a/manifest.json": _json,
            "a/model.safetensors": m.safetensors_bytes,
            "a/poses.safetensors": m.safetensors_bytes,
            "a/plates/000000.jpg": m.image_bytes,
        }

    def settle(self, rng: random.Random, name: str) -> None:
        file = self.valid / "a/manifest.json"
        if name.endswith("manifest.json") or rng.random() < 0.05:
            return
        self._manifest = file.read_bytes()
        manifest = json.loads(self._manifest)
        content = (self.valid / name).read_bytes()
        manifest["files"][name.removeprefix("a/")] = hashlib.sha256(content).hexdigest()
        file.write_text(json.dumps(manifest))

    _manifest: bytes | None = None

    def restore(self) -> None:
        super().restore()
        if self._manifest is not None:
            (self.valid / "a/manifest.json").write_bytes(self._manifest)
            self._manifest = None

    def read(self, place: Path) -> object:
        from being.model.avatar import load_avatar

        avatar = load_avatar(self.valid / "a")
        return avatar.plate(0), avatar.consent_note, avatar.size


class AvatarParts(AvatarBundle):
    """Mattes and source frames of a bundle."""

    def make(self) -> None:
        from placed_avatar import write_placed_avatar

        write_placed_avatar(self.valid / "a")

    def victims(self) -> dict[str, Mutate]:
        return {
            "a/manifest.json": _json,
            "a/background.jpg": m.image_bytes,
            "a/mattes/000001.png": m.image_bytes,
            "a/surround.mp4": m.changed_bytes,
            "a/surround.safetensors": m.safetensors_bytes,
        }

    def read(self, place: Path) -> object:
        from being.inference.look import Look, view_of
        from being.model.avatar import load_avatar

        avatar = load_avatar(self.valid / "a")
        image = avatar.plate(1)
        if avatar.torsos is not None:
            view_of(avatar, Look(background="red")).avatar.plate(1)
        if avatar.surround is not None:
            view = view_of(avatar, Look(into_source=True))
            assert view.finish is not None
            return [view.finish(pose, image).shape for pose in range(avatar.pose_count)]
        return None


class RunFolder(Target):
    def make(self) -> None:
        from trained_gaussiantalker import SMALL, random_gaussians

        from being.config import load
        from being.model.talking_head import TalkingHead
        from being.runs.run_directory import Run

        model = TalkingHead(SMALL, 7, random_gaussians(1))
        run = Run.create(
            self.valid / "d", "May", load("quick", environment={}), "quick", self.valid
        )
        state = {"stage": "fine", "step": 3, "best": 1.5, "audio_width": 7}
        state["plateau"] = {"best": 3.0, "waited": 1, "since": None}
        run.save("last", model.state_dict(), state)
        lines = [json.dumps({"stage": "fine", "step": k, "loss": 0.5}) for k in range(5)]
        (run.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        run.path.rename(self.valid / "r")
        (self.valid / "d").mkdir()
        (self.valid / "d/dataset.json").write_text(json.dumps({"source": {"sha256": "0" * 64}}))
        Run(self.valid / "r").note_dataset(self.valid / "d")

    def victims(self) -> dict[str, Mutate]:
        return {
            "d/dataset.json": _json,
            "r/run.json": _json,
            "r/config.yaml": _text,
            "r/metrics.jsonl": _text,
            "r/checkpoints/last/state.json": _json,
            "r/checkpoints/last/model.safetensors": m.safetensors_bytes,
        }

    def read(self, place: Path) -> object:
        from trained_gaussiantalker import SMALL

        from being.model.talking_head import ModelMismatch, TalkingHead
        from being.runs.run_directory import Run
        from being.train.plateau import Plateau

        for name in ("d", "r"):
            shutil.copytree(self.valid / name, place / name)
        run = Run.open(place / "r")
        _ = run.config, run.dataset
        last = run.load("last")
        assert last is not None
        Plateau(None, 10).load(last.state.get("plateau"))
        run.rewind(last)
        try:
            return TalkingHead.from_state(SMALL, last.state["audio_width"], last.model)
        except ModelMismatch:
            return None


# --- preprocessing's own inputs


class Teeth(Target):
    def make(self) -> None:
        np.save(self.valid / "0.npy", np.zeros((20, 30), bool))
        np.save(self.valid / "f.npy", np.zeros((20, 16, 29), np.float32))

    def victims(self) -> dict[str, Mutate]:
        return {"0.npy": _npy, "f.npy": _npy}

    def read(self, place: Path) -> object:
        from being.audio.feature_files import read_feature_file
        from being.preprocess.segmentation.teeth import read_teeth

        try:
            return read_teeth(self.valid, 0, 20, 30)
        finally:
            read_feature_file(self.valid / "f.npy", 20, 29)


class Workspaces(Target):
    def make(self) -> None:
        steps = {"frames": {"inputs": "a", "digest": "b", "seconds": 1.0}}
        (self.valid / "steps.json").write_text(json.dumps({"key": "k", "steps": steps}))

    def victims(self) -> dict[str, Mutate]:
        return {"steps.json": _json}

    def read(self, place: Path) -> object:
        from being.console import console
        from being.preprocess.workspace import Workspace

        console.quiet = True
        with Workspace(place / "out") as workspace:
            shutil.copy(self.valid / "steps.json", workspace.folder / ".work/steps.json")
            workspace.resume("k")
            return workspace.finished


class FaceModel(Target):
    def make(self) -> None:
        from scipy.io import savemat

        values = {"shapeMU": np.zeros((18_000, 1)), "other": np.zeros(9)}
        savemat(self.valid / "m.mat", values, do_compression=True)

    def victims(self) -> dict[str, Mutate]:
        return {"m.mat": m.changed_bytes}

    def read(self, place: Path) -> object:
        from being.face.morphable_model import read_bfm

        return read_bfm(self.valid / "m.mat")


class ParserNetwork(Target):
    """An ONNX file for --parser, and the settings beside it."""

    def make(self) -> None:
        import onnx
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=1)],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 32, 32])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        model.metadata_props.add(key="image_mean", value="[0.5, 0.5, 0.5]")
        onnx.save(model, str(self.valid / "p.onnx"))
        settings = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}
        (self.valid / "preprocessor_config.json").write_text(json.dumps(settings))
        (self.valid / "config.json").write_text(json.dumps({"model_type": "x"}))

    def victims(self) -> dict[str, Mutate]:
        return {
            "p.onnx": m.changed_bytes,
            "preprocessor_config.json": _json,
            "config.json": _json,
        }

    def read(self, place: Path) -> object:
        from being.preprocess.segmentation.parser_onnx import OnnxParser

        return OnnxParser(self.valid / "p.onnx")


class Hama(Target):
    def make(self) -> None:
        import struct

        arrays = {"a": np.arange(6, dtype="<f4").reshape(2, 3), "b": np.ones(5, "<f2")}
        table, data = b"", b""
        for name, array in arrays.items():
            element = 0 if array.dtype.itemsize == 4 else 1
            table += struct.pack("<H", len(name)) + name.encode()
            table += struct.pack(
                f"<BB{array.ndim}IQQ", element, array.ndim, *array.shape, len(data), array.nbytes
            )
            data += array.tobytes()
        content = b"HAMAPK\x01\x00" + struct.pack("<I", len(arrays)) + table
        (self.valid / "a.hama").write_bytes(content + bytes(-len(content) % 16) + data)

    def victims(self) -> dict[str, Mutate]:
        return {"a.hama": m.changed_bytes}

    def read(self, place: Path) -> object:
        from being.audio.phoneme_conformer import read_tensors

        return read_tensors(self.valid / "a.hama")


class Carriers(Target):
    """Archives of published packages, the pickle and the network inside, and an index page."""

    def make(self) -> None:
        import pickle

        from being.assets.weight_converters import SourceFailed

        self.refusals = (SourceFailed,)
        with zipfile.ZipFile(self.valid / "a.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.writestr("p/w.bin", bytes(500))
        with tarfile.open(self.valid / "a.tar.gz", "w:gz") as sdist:
            entry = tarfile.TarInfo("p/w.bin")
            entry.size = 500
            sdist.addfile(entry, io.BytesIO(bytes(500)))
        kernel = np.zeros((5, 3, 2, 7), np.float32)
        tree = {
            "AlexNet_0": {"Conv_0": {"kernel": kernel, "bias": np.zeros(7, np.float32)}},
            "NetLinLayer_0": {"Conv_0": {"kernel": np.zeros((1, 1, 7, 1), np.float32)}},
        }
        (self.valid / "l.ckpt").write_bytes(pickle.dumps(tree))
        numbers = b"".join(bytes([1, n]) for n in (2, 1, 1, 1, 64))
        layer = b"\x05con_4" + numbers + bytes(4 * 148 * 2)
        (self.valid / "d.dat").write_bytes(layer)
        (self.valid / "i.html").write_text(
            '<html><body><a href="../../p-1.0.tar.gz#sha256=' + "0" * 64 + '">p</a></body></html>'
        )

    def victims(self) -> dict[str, Mutate]:
        return {
            **dict.fromkeys(("a.whl", "a.tar.gz", "l.ckpt", "d.dat"), m.changed_bytes),
            "i.html": _text,
        }

    def read(self, place: Path) -> object:
        from being.assets import read_member
        from being.assets.package_index import _html_links
        from being.assets.weight_converters import dlib_safetensors, lpips_safetensors

        changed = self._changed[0].name if self._changed else ""
        if changed in ("", "a.whl", "a.tar.gz"):
            for name in ("a.whl", "a.tar.gz"):
                read_member(self.valid / name, "p/w.bin", 500)
        if changed in ("", "l.ckpt"):
            lpips_safetensors((self.valid / "l.ckpt").read_bytes())
        if changed == "d.dat":
            dlib_safetensors((self.valid / "d.dat").read_bytes())
        if changed in ("", "i.html"):
            _html_links((self.valid / "i.html").read_text(errors="replace"), "file:///p/")
        return None


# --- media


class Sound(Target):
    def make(self) -> None:
        import av

        samples = (np.sin(np.arange(4000) * 0.1) * 9000).astype(np.int16)
        with wave.open(str(self.valid / "a.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(samples.tobytes())
        for name, codec in (("a.flac", "flac"), ("a.mp3", "libmp3lame"), ("a.m4a", "aac")):
            with av.open(str(self.valid / name), "w") as out:
                stream = out.add_stream(codec, rate=16_000)
                frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
                frame.sample_rate = 16_000
                resampled = av.AudioResampler(stream.format.name, "mono", 16_000).resample(frame)
                for part in resampled:
                    out.mux(stream.encode(part))
                out.mux(stream.encode(None))

    def victims(self) -> dict[str, Mutate]:
        return dict.fromkeys(("a.wav", "a.flac", "a.mp3", "a.m4a"), m.changed_bytes)

    def read(self, place: Path) -> object:
        from being.media import read_audio

        name = self._changed[0].name if self._changed else "a.wav"
        return read_audio(self.valid / name)


class Video(Target):
    def make(self) -> None:
        from being.media import VideoWriter

        sound = (0.1 * np.sin(np.arange(12 * 640) * 0.1)).astype(np.float32)
        for name in ("a.mp4", "a.mkv"):
            with VideoWriter(self.valid / name, 64, 48, audio=sound) as video:
                for k in range(12):
                    video.write(np.full((48, 64, 3), 20 * k, np.uint8))

    def victims(self) -> dict[str, Mutate]:
        return {"a.mp4": m.changed_bytes, "a.mkv": m.changed_bytes}

    def read(self, place: Path) -> object:
        from being import media
        from being.media.audio_reading import read_audio_track

        name = self._changed[0].name if self._changed else "a.mp4"
        info = media.probe(self.valid / name)
        frames = sum(1 for _ in media.read_timed_frames(info.path))
        return frames, read_audio_track(self.valid / name)


class Marks(Target):
    """Marked and signed files, as `being verify` reads them."""

    SIDE = 128

    def make(self) -> None:
        from being.media import VideoWriter
        from being.media.png_sequence import PngSequenceWriter
        from being.provenance.content_credentials import read_key
        from being.provenance.file_marks import file_marks
        from being.provenance.mark import Mark
        from being.provenance.watermark import Watermark
        from being.provenance.watermark_pattern import PUBLIC_KEY
        from tests.support.signing_chain import write_chain

        mark = Mark.of({"name": "a", "encoder": "hama"}, Watermark("5a" * 32, PUBLIC_KEY))
        chain = write_chain(self.valid)
        marks = file_marks(mark, read_key(chain["chain"], chain["key"]))
        sound = (0.1 * np.sin(np.arange(3 * 640) * 0.1)).astype(np.float32)
        image = np.full((self.SIDE, self.SIDE, 3), 100, np.uint8)
        for name in ("a.mp4", "a.webm"):
            with VideoWriter(
                self.valid / name, self.SIDE, self.SIDE, audio=sound, marks=marks
            ) as video:
                for _ in range(3):
                    video.write(image)
        with PngSequenceWriter(self.valid / "p", sound, 16_000, marks) as pictures:
            pictures.write(image)
        for found in (self.valid / "p").iterdir():
            found.replace(self.valid / f"p{found.suffix}")
        (self.valid / "s.json").write_text(mark.text())

    def victims(self) -> dict[str, Mutate]:
        files = ("a.mp4", "a.webm", "a.webm.c2pa", "p.png", "p.wav")
        return {
            **dict.fromkeys(files, m.changed_bytes),
            "s.json": lambda rng, content: m.json_bytes(rng, json.loads(content)),
        }

    def read(self, place: Path) -> object:
        from being.provenance.verification import verify
        from being.provenance.watermark_pattern import PUBLIC_KEY

        name = self._changed[0].name if self._changed else "a.mp4"
        return verify(self.valid / name.removesuffix(".c2pa"), PUBLIC_KEY)


TARGETS: dict[str, type[Target]] = {
    "config_yaml": ConfigYaml,
    "config_python": ConfigPython,
    "override": Override,
    "dataset_manifest": DatasetManifest,
    "dataset_arrays": DatasetArrays,
    "dataset_track": DatasetTrack,
    "dataset_table": DatasetTable,
    "dataset_images": DatasetImages,
    "pack": Pack,
    "openface": OpenFace,
    "curves": Curves,
    "family": Family,
    "ply": Ply,
    "gaussiantalker": Trained,
    "avatar": AvatarBundle,
    "avatar_parts": AvatarParts,
    "run": RunFolder,
    "teeth_and_features": Teeth,
    "workspace": Workspaces,
    "face_model": FaceModel,
    "parser_network": ParserNetwork,
    "hama": Hama,
    "carriers": Carriers,
    "sound": Sound,
    "video": Video,
    "marks": Marks,
}
