"""The native renderer: images of the torch modules from every library, precision and input."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from being.config import ModelConfig
from being.data.cameras import world_to_camera
from being.errors import EnvironmentFault, UsageError
from being.inference.backends.cpu import library
from being.inference.backends.cpu.head import NativeHeadModel, status
from being.model.gaussians import CanonicalGaussians
from being.model.gaussiantalker import Offsets
from being.model.talking_head import TalkingHead
from being.splat import Cameras, composite, rasterize
from being.splat.cpu.library import processor_flags

pytestmark = pytest.mark.skipif(not status().startswith("OK"), reason=status())
RECORD = ModelConfig(plane_resolution=16)
CONFIGS = {
    "record": RECORD,
    "two layers": ModelConfig(plane_resolution=16, n_layer=2),
    "quick": ModelConfig(plane_resolution=16, net_width=64, ffn_hidden=64, sh_degree=1),
    "no harmonics": ModelConfig(plane_resolution=16, sh_degree=0),
    "odd widths": ModelConfig(
        plane_resolution=8,
        plane_channels=21,
        d_model=42,
        n_head=3,
        net_width=75,
        ffn_hidden=53,
        sh_degree=2,
    ),
}
FRAMES, SIZE, FOCAL = 3, 72, 260.0


def head(config: ModelConfig = RECORD, count: int = 1500, seed: int = 0) -> TalkingHead:
    """A random head with visible offsets that covers most of the image."""
    torch.manual_seed(seed)
    points = torch.nn.functional.normalize(torch.randn(count, 3), dim=1) * torch.tensor(
        [0.7, 0.9, 0.8]
    )
    raw = CanonicalGaussians(
        points,
        -3 + 0.6 * torch.randn(count, 3),
        torch.randn(count, 4),
        1 + 2 * torch.randn(count, 1),
        0.5 * torch.randn(count, 1, 3),
        0.2 * torch.randn(count, (config.sh_degree + 1) ** 2 - 1, 3),
    )
    model = TalkingHead(config, 8, raw).eval().requires_grad_(False)
    for layer in model.network.transformer.layers:
        for name, parameter in layer.named_parameters():
            if name.endswith(("bias", "beta")):
                parameter.normal_(0, 0.1)
    for name, parameter in model.network.named_parameters():
        if "deform.1.bias" in name:
            parameter.normal_(0, 0.1)
        if "deform.3.weight" in name:
            parameter.mul_(0.3)  # offsets about as large as in a trained head
    return model


def inputs(
    config: ModelConfig = RECORD, frames: int = FRAMES, size: int = SIZE
) -> list[torch.Tensor]:
    """Tokens, cameras and plates."""
    random = torch.Generator().manual_seed(5)
    euler = np.zeros((frames, 3))
    euler[:, 1] = np.linspace(-0.3, 0.3, frames)
    cameras = torch.from_numpy(
        world_to_camera(euler, np.tile([0.1, 0.05, -7], (frames, 1)))
    ).float()
    plates = torch.randint(0, 256, (frames, size, size, 3), generator=random, dtype=torch.uint8)
    return [torch.randn(frames, 4, config.d_model, generator=random), cameras, plates]


def torch_images(model: TalkingHead, tokens, cameras, plates, focal: float = FOCAL) -> torch.Tensor:
    """The images of the torch modules in float32."""
    size = plates.shape[1]
    gaussians = model.gaussians.activate(
        model.network.deform(model.network.queries(model.gaussians.means), tokens)
    )
    output = rasterize(gaussians, Cameras(cameras, focal, size, size))
    image = composite(output, plates.permute(0, 3, 1, 2).float() / 255)
    return image.clamp(0, 1).mul(255).add(0.5).byte().permute(0, 2, 3, 1)


def psnr(got: torch.Tensor, want: torch.Tensor) -> float:
    """Of the worst frame, dB."""
    error = ((got.double() - want.double()) ** 2).mean((1, 2, 3)).max()
    return float(10 * torch.log10(255**2 / error.clamp_min(1e-9)))


def runs(name: str) -> bool:
    """Whether a library is built and this processor runs it."""
    built = (Path(library.__file__).parent / f"_head_{name}.so").exists()
    return built and processor_flags().issuperset(dict(library.LIBRARIES)[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_images_are_those_of_torch_for_every_network(name):
    model, arguments = head(CONFIGS[name]), inputs(CONFIGS[name])
    want = torch_images(model, *arguments)
    assert (want != arguments[2]).float().mean() > 0.5  # the head is seen
    assert (
        psnr(NativeHeadModel(model, FOCAL, SIZE, precision="float32").render(*arguments), want) > 60
    )
    assert psnr(NativeHeadModel(model, FOCAL, SIZE).render(*arguments), want) > 45


@pytest.mark.parametrize("library", [name for name, _ in library.LIBRARIES])
def test_every_library_gives_the_same_images(library):
    if not runs(library):
        pytest.skip("not built or not for this processor")
    for config in (CONFIGS["two layers"], CONFIGS["odd widths"]):
        model, arguments = head(config, 401), inputs(config)
        native = NativeHeadModel(model, FOCAL, SIZE, precision="float32", library=library)
        assert psnr(native.render(*arguments), torch_images(model, *arguments)) > 60
        if "bf16" not in library and "amx" not in library:
            assert (
                native.precision
                == NativeHeadModel(model, FOCAL, SIZE, library=library).precision
                == "float32"
            )


@pytest.mark.parametrize("count", [1, 15, 48, 49, 97])
def test_any_number_of_gaussians(count):
    model, arguments = head(count=count), inputs()
    model.gaussians.log_scales += 1.5
    assert (
        psnr(
            NativeHeadModel(model, FOCAL, SIZE, precision="float32").render(*arguments),
            torch_images(model, *arguments),
        )
        > 60
    )


@pytest.mark.parametrize("size", [1, 16, 33, 130])
def test_any_size(size):
    model, arguments = head(), inputs(size=size)
    focal = FOCAL * size / SIZE
    native = NativeHeadModel(model, focal, size, precision="float32")
    assert (
        psnr(native.render(*arguments), torch_images(model, *arguments, focal=focal)) > 55
    )  # a pixel at a threshold counts for much


def test_a_head_that_cannot_be_seen_gives_the_plate():
    arguments = inputs()
    assert torch.equal(
        NativeHeadModel(TalkingHead(RECORD, 8, unseen()), FOCAL, SIZE).render(*arguments),
        arguments[2],
    )


def unseen() -> CanonicalGaussians:
    """A head with a single Gaussian that cannot be seen."""
    one = CanonicalGaussians(
        *(torch.zeros(1, *shape) for shape in ((3,), (3,), (4,), (1,), (1, 3), (15, 3)))
    )
    one.opacity_logits.data -= 50
    one.quaternions.data[:, 0] = 1
    return one


def test_thin_and_slanted_gaussians():
    """Needles across many rows and columns: their alpha cannot be computed from row to row."""
    model, arguments = head(count=300), inputs()
    model.gaussians.log_scales.copy_(torch.tensor([-0.5, -6.0, -6.0]).expand(300, 3))
    assert (
        psnr(
            NativeHeadModel(model, FOCAL, SIZE, precision="float32").render(*arguments),
            torch_images(model, *arguments),
        )
        > 60
    )


def test_gaussians_that_cannot_be_drawn_are_left_out():
    model, arguments = head(count=500), inputs()
    raw = model.gaussians
    raw.means[:20, 2] += 9.0  # behind the camera
    raw.means[20:40, 2] += 6.9  # before the near plane
    raw.means[40:60, 0] += 40.0  # far aside
    raw.means[60:64] = float("nan")
    raw.log_scales[64:68, 1] = float("nan")
    raw.log_scales[68:72, 1] = 200.0
    raw.quaternions[72:76] = float("nan")
    raw.opacity_logits[76:80] = float("nan")
    raw.opacity_logits[80:90] = -30.0
    raw.opacity_logits[90:100] = float("inf")
    raw.sh_dc[100:104] = float("nan")
    raw.sh_rest[104:108] = float("inf")
    model.fit_box(raw.means[108:])
    want = torch_images(model, *arguments)
    got = NativeHeadModel(model, FOCAL, SIZE, precision="float32").render(*arguments)
    assert psnr(got, want) > 60
    assert psnr(NativeHeadModel(model, FOCAL, SIZE).render(*arguments), want) > 45


def test_tokens_that_are_not_finite_leave_the_plate():
    arguments = inputs()
    arguments[0][1, 2] = float("nan")
    for precision in ("float32", "auto"):
        got = NativeHeadModel(head(), FOCAL, SIZE, precision=precision).render(*arguments)
        assert torch.equal(got[1], arguments[2][1]) and not torch.equal(got[0], arguments[2][0])


def test_frames_do_not_depend_on_their_batch_nor_on_threads():
    model, arguments = head(), inputs(frames=5)
    native = NativeHeadModel(model, FOCAL, SIZE, threads=2)
    whole = native.render(*arguments)
    assert set(native.times) == set(library.STAGES) and all(
        value >= 0 for value in native.times.values()
    )
    for threads in (1, 2, 7):
        other = NativeHeadModel(model, FOCAL, SIZE, threads=threads)
        assert torch.equal(whole, other.render(*arguments))
        assert torch.equal(
            whole, torch.cat([other.render(*(x[k : k + 1] for x in arguments)) for k in range(5)])
        )


def test_calls_from_several_threads_do_not_mix():
    native, arguments = NativeHeadModel(head(), FOCAL, SIZE, threads=2), inputs(frames=4)
    want, wrong = native.render(*arguments), []

    def work(k: int) -> None:
        for _ in range(5):
            if not torch.equal(native.render(*(x[k : k + 1] for x in arguments))[0], want[k]):
                wrong.append(k)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_unknown_and_missing_precisions_are_refused():
    with pytest.raises(UsageError, match="int4"):
        NativeHeadModel(head(count=4), FOCAL, SIZE, precision="int4")
    if runs("baseline"):
        with pytest.raises(EnvironmentFault, match="bfloat16"):
            NativeHeadModel(head(count=4), FOCAL, SIZE, precision="bfloat16", library="baseline")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_kept_key_frame_is_drawn_as_a_rendered_one(name):
    tokens, cameras, plates = inputs(CONFIGS[name])
    native, slots = NativeHeadModel(head(CONFIGS[name]), FOCAL, SIZE), torch.tensor([2, 0, 5])
    native.keep(tokens, cameras, slots)
    drawn = native.render_between(cameras, plates, slots, slots.flip(0), torch.zeros(FRAMES))
    assert torch.equal(drawn, native.render(tokens, cameras, plates))
    assert torch.equal(
        drawn, native.render_between(cameras, plates, slots.flip(0), slots, torch.ones(FRAMES))
    )


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_an_interpolated_frame_has_interpolated_offsets(share):
    """Colours are those that the key frames see, so the spherical harmonics have degree 0 here."""
    config = CONFIGS["no harmonics"]
    model, (tokens, cameras, plates) = head(config), inputs(config)
    native = NativeHeadModel(model, FOCAL, SIZE, precision="float32")
    native.keep(tokens[:2], cameras[:2], torch.tensor([0, 1]))
    drawn = native.render_between(
        cameras[2:], plates[2:], torch.tensor([0]), torch.tensor([1]), torch.tensor([share])
    )
    ends = model.network.deform(model.network.queries(model.gaussians.means), tokens[:2])
    mixed = Offsets(
        **{
            key: None if value is None else value[:1].lerp(value[1:], share)
            for key, value in vars(ends).items()
        }
    )
    output = rasterize(model.gaussians.activate(mixed), Cameras(cameras[2:], FOCAL, SIZE, SIZE))
    image = composite(output, plates[2:].permute(0, 3, 1, 2).float() / 255).clamp(0, 1)
    assert psnr(drawn, image.mul(255).add(0.5).byte().permute(0, 2, 3, 1)) > 60
