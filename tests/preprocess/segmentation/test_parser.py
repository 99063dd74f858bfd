"""Parser networks: ONNX files of the user, SegFormers, and errors for files that are neither."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from drawn_clip import draw_clip, overlap

from being.data.parsing import BACKGROUND, HEAD, NECK, TORSO
from being.errors import EnvironmentFault, InputRejected, UsageError
from being.preprocess.segmentation.clip_parsing import parse_clip
from being.preprocess.segmentation.parser import load_parser
from being.preprocess.segmentation.parser_classes import CELEBAMASK, merge_classes, part_of_classes

SIZE = 64
HUB_ORDER = [
    "background",
    "skin",
    "nose",
    "eye_g",
    "l_eye",
    "r_eye",
    "l_brow",
    "r_brow",
    "l_ear",
    "r_ear",
    "mouth",
    "u_lip",
    "l_lip",
    "hair",
    "hat",
    "ear_r",
    "neck_l",
    "neck",
    "cloth",
]


def write_graph(
    path: Path,
    channels: int,
    weight: np.ndarray,
    bias: np.ndarray,
    last: bool = False,
    nodes_after: tuple = (),
    input_type: int = 1,
    side: int | str = SIZE,
    metadata: dict | None = None,
) -> Path:
    """An ONNX file whose classes are linear in a pixel's colour: weight [C, 3], bias [C]."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    shape = [1, side, side, 3] if last else [1, 3, side, side]
    nodes, current = [], "image"
    if input_type == 2:
        nodes.append(helper.make_node("Cast", [current], ["cast"], to=1))
        current = "cast"
    if last:
        nodes.append(helper.make_node("Transpose", [current], ["first"], perm=[0, 3, 1, 2]))
        current = "first"
    nodes.append(helper.make_node("Conv", [current, "w", "b"], ["y0"]))
    current = "y0"
    for number, (op, attributes) in enumerate(nodes_after, 1):
        nodes.append(helper.make_node(op, [current], [f"y{number}"], **attributes))
        current = f"y{number}"
    integers = any(op == "ArgMax" for op, _ in nodes_after)
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", input_type, shape)],
        [helper.make_tensor_value_info(current, 7 if integers else 1, None)],
        [
            numpy_helper.from_array(weight.reshape(channels, 3, 1, 1).astype(np.float32), "w"),
            numpy_helper.from_array(bias.astype(np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def colour_classes(
    names: list[str] | tuple[str, ...] = CELEBAMASK,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of a 19-class parser: red is cloth, green neck, blue hair, black background."""
    weight, bias = np.zeros((19, 3)), np.full(19, -40.0)
    for name, row in (("cloth", (6, -2, -2)), ("neck", (-2, 6, -2)), ("hair", (-2, -2, 6))):
        weight[names.index(name)], bias[names.index(name)] = row, 0
    bias[names.index("background")] = 1
    return weight, bias


@pytest.fixture
def image() -> np.ndarray:
    """An image of four quarters: background, head, neck, torso for `colour_classes`."""
    frame = np.zeros((96, 96, 3), np.uint8)
    frame[:48, 48:], frame[48:, :48], frame[48:, 48:] = (0, 0, 255), (0, 255, 0), (255, 0, 0)
    return frame


def quarters(parts: np.ndarray) -> list[int]:
    """The most probable part in the middle of each quarter."""
    labels = parts.argmax(0)
    n = labels.shape[0]
    return [int(labels[y, x]) for y in (n // 4, 3 * n // 4) for x in (n // 4, 3 * n // 4)]


@pytest.mark.parametrize("variant", ["first", "last", "open sides", "softmax", "argmax", "bytes"])
def test_a_face_parser_from_a_file_may_have_any_layout(
    tmp_path: Path, image: np.ndarray, variant: str
):
    pytest.importorskip("onnxruntime")
    weight, bias = colour_classes()
    options: dict = {
        "softmax": {"nodes_after": (("Softmax", {"axis": 1}),)},
        "argmax": {"nodes_after": (("ArgMax", {"axis": 1, "keepdims": 0}),)},
        "last": {"last": True},
        "open sides": {"side": "side"},
        "bytes": {"input_type": 2},
    }.get(variant, {})
    found = load_parser(str(write_graph(tmp_path / "model.onnx", 19, weight, bias, **options)))(
        image
    )
    assert found.dtype == np.float32 and found.shape[0] == 4
    assert found.shape[1:] == ((512, 512) if variant == "open sides" else (SIZE, SIZE))
    assert np.abs(found.sum(0) - 1).max() < 1e-3
    assert quarters(found) == [BACKGROUND, HEAD, NECK, TORSO]


@pytest.mark.parametrize("where", ["metadata", "config.json"])
def test_another_order_of_classes_is_read_beside_the_file(
    tmp_path: Path, image: np.ndarray, where: str
):
    pytest.importorskip("onnxruntime")
    names = json.dumps({str(i): name for i, name in enumerate(HUB_ORDER)})
    weight, bias = colour_classes(HUB_ORDER)
    path = write_graph(
        tmp_path / "model.onnx",
        19,
        weight,
        bias,
        metadata={"id2label": names} if where == "metadata" else None,
    )
    if where == "config.json":
        (tmp_path / "config.json").write_text(f'{{"id2label": {names}}}')
    assert quarters(load_parser(str(path))(image)) == [BACKGROUND, HEAD, NECK, TORSO]


def test_normalisation_is_imagenets_unless_the_model_has_its_own(tmp_path: Path):
    pytest.importorskip("onnxruntime")
    weight, bias = np.array([[1.0, 0, 0]]), np.array([0.0])
    path = write_graph(tmp_path / "matte.onnx", 1, weight, bias, nodes_after=(("Sigmoid", {}),))
    frame = np.full((SIZE, SIZE, 3), 204, np.uint8)

    def value() -> float:
        return float(np.log(1 / load_parser(str(path))(frame)[0, 5, 5] - 1) * -1)

    assert value() == pytest.approx((0.8 - 0.485) / 0.229, abs=1e-3)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
    )
    assert value() == pytest.approx(0.6, abs=1e-3)


@pytest.mark.parametrize(
    "channels, after", [(1, ()), (1, (("Sigmoid", {}),)), (2, ()), (2, (("Softmax", {"axis": 1}),))]
)
def test_a_portrait_matte_gives_the_person(
    tmp_path: Path, image: np.ndarray, channels: int, after: tuple
):
    pytest.importorskip("onnxruntime")
    weight = np.array([[-4.0, -4, -4], [4, 4, 4]])[-channels:]
    found = load_parser(
        str(
            write_graph(
                tmp_path / "m.onnx", channels, weight, np.zeros(channels), nodes_after=after
            )
        )
    )
    matte = found(np.vstack([np.zeros_like(image), np.full_like(image, 255)]))
    assert matte.shape == (1, SIZE, SIZE) and 0 <= matte.min() and matte.max() <= 1
    assert matte[0, 4].max() < 0.1 and matte[0, -4].min() > 0.9


def test_files_that_are_no_parsers_are_rejected_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from onnx import helper

    (tmp_path / "text.onnx").write_text("not a graph")
    (tmp_path / "empty.onnx").write_bytes(b"")
    write_graph(tmp_path / "seven.onnx", 7, np.zeros((7, 3)), np.zeros(7))
    write_graph(tmp_path / "huge.onnx", 1, np.zeros((1, 3)), np.zeros(1), side=8192)
    write_graph(
        tmp_path / "mean.onnx",
        1,
        np.zeros((1, 3)),
        np.zeros(1),
        metadata={"image_std": "[0, 1, 1]"},
    )
    write_graph(
        tmp_path / "tiny.onnx",
        1,
        np.zeros((1, 3)),
        np.zeros(1),
        metadata={"image_std": "[1e-60, 1, 1]"},  # 0 in float32
    )
    write_graph(
        tmp_path / "classes.onnx",
        19,
        np.zeros((19, 3)),
        np.zeros(19),
        metadata={"id2label": '{"0": "cat"}'},
    )
    write_graph(tmp_path / "nan.onnx", 1, np.full((1, 3), np.nan), np.zeros(1))
    node = helper.make_node("Evil", ["x"], ["y"], domain="elsewhere")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    onnx.save(
        helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("elsewhere", 1)],
            ir_version=8,
        ),
        tmp_path / "operator.onnx",
    )
    wrong = ("text", "empty", "seven", "huge", "mean", "tiny", "classes", "nan", "operator")
    for name in (*wrong, "missing"):
        with pytest.raises(InputRejected) as refusal:
            load_parser(str(tmp_path / f"{name}.onnx"))
        assert name in str(refusal.value) and refusal.value.fix
    monkeypatch.setattr("being.preprocess.segmentation.parser_onnx.FILE_LIMIT", 10)
    with pytest.raises(InputRejected, match="MiB"):
        load_parser(str(tmp_path / "seven.onnx"))


def test_a_file_does_not_read_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto

    path = write_graph(tmp_path / "model.onnx", 1, np.zeros((1, 3)), np.zeros(1))
    (tmp_path / "secret.bin").write_bytes(np.zeros(3, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    for location in ("secret.bin", str(tmp_path / "secret.bin"), "../secret.bin"):
        model = onnx.load(path, load_external_data=False)
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        (tmp_path / "outside.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(InputRejected):
            load_parser(str(tmp_path / "outside.onnx"))


def write_segformer(folder: Path, names: list[str]) -> Path:
    """A SegFormer of a few thousand random weights with the face parser's classes."""
    pytest.importorskip("transformers")
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        num_encoder_blocks=4,
        depths=[1] * 4,
        hidden_sizes=[8, 8, 8, 8],
        num_attention_heads=[1] * 4,
        decoder_hidden_size=8,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={n: i for i, n in enumerate(names)},
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    return folder


def test_a_segformer_in_a_folder_gives_the_parts_of_its_classes(tmp_path: Path, image: np.ndarray):
    pytest.importorskip("transformers")
    import torch
    from transformers import SegformerForSemanticSegmentation

    from being.preprocess.segmentation.parser_input import IMAGENET_MEAN, IMAGENET_STD

    torch.manual_seed(0)
    folder = write_segformer(tmp_path / "model", HUB_ORDER)
    found = load_parser(str(folder))(image)
    assert found.shape == (4, 128, 128) and np.abs(found.sum(0) - 1).max() < 1e-4
    # An image of 512 px is not resampled.
    same = np.repeat(np.repeat(image, 6, 0), 6, 1)[:512, :512]
    values = (same / 255.0 - IMAGENET_MEAN) / np.array(IMAGENET_STD)
    network = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    with torch.no_grad():
        shares = (
            network(pixel_values=torch.tensor(values.transpose(2, 0, 1)[None], dtype=torch.float32))
            .logits.softmax(1)[0]
            .numpy()
        )
    assert np.abs(load_parser(str(folder))(same)[NECK] - shares[[16, 17]].sum(0)).max() < 1e-4


def test_an_incomplete_segformer_names_the_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("transformers")
    folder = write_segformer(tmp_path / "model", HUB_ORDER)
    (folder / "model.safetensors").unlink()
    with pytest.raises(EnvironmentFault, match="model.safetensors"):
        load_parser(str(folder))
    with pytest.raises(EnvironmentFault, match="config.json"):
        (tmp_path / "void").mkdir()
        load_parser(str(tmp_path / "void"))
    with pytest.raises(InputRejected, match="face parser"):
        load_parser(str(write_segformer(tmp_path / "pets", ["background", "cat"])))
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub.is_offline_mode", lambda: True, raising=False)
    with pytest.raises(EnvironmentFault, match="config.json"):
        load_parser("nobody/no-such-face-parser")


def test_names_that_are_no_parsers_are_usage_errors():
    for name in ("segfomer", "a/b/c", "model.pth"):
        with pytest.raises(UsageError, match="there is no parser"):
            load_parser(name)


def test_classes_and_scores_merge_to_parts():
    assert part_of_classes(list(CELEBAMASK)).count(HEAD) == 15
    with pytest.raises(ValueError, match="cat"):
        part_of_classes([*CELEBAMASK[:-1], "cat"])
    scores = np.zeros((19, 1, 1))
    scores[CELEBAMASK.index("hair")] = scores[CELEBAMASK.index("skin")] = 0.5
    assert merge_classes(scores, part_of_classes(list(CELEBAMASK)))[HEAD, 0, 0] == pytest.approx(1)


def test_a_parsers_parts_become_the_masks_and_wrong_parts_are_rejected():
    clip = draw_clip(12, long_hair=True)

    def known(frame: np.ndarray) -> np.ndarray:
        index = next(i for i, f in enumerate(clip.frames) if f is frame)
        return np.eye(4, dtype=np.float32)[clip.labels[index]].transpose(2, 0, 1)

    for parsing, truth in zip(
        parse_clip(clip.frames, clip.points, parser=known), clip.labels, strict=True
    ):
        for part in (HEAD, NECK, TORSO):
            assert overlap(parsing.labels == part, truth == part) > 0.93, part
    with pytest.raises(InputRejected, match="does not find the faces"):
        list(parse_clip(clip.frames, clip.points, parser=lambda frame: known(frame)[[1, 0, 2, 3]]))
