"""The one door to `diffusers`: an image-to-image pipeline from a local folder.

B images, H x W px.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from being.assets.hub import load_transformers
from being.errors import EnvironmentFault, InputRejected
from being.reading.content import reason
from being.refine.model_folder import FIX, ModelFolder

INSTALL = "pip install 'being[refine]'"


class ImageModel(Protocol):
    """What changes images."""

    name: str
    side: int  # px of the shorter side at which it works best
    multiple: int  # sides of its images are multiples of it, px

    def change(self, images: np.ndarray, strength: float, steps: int) -> np.ndarray:
        """Changed images float32 [B, H, W, 3] in 0..255, of images uint8 [B, H, W, 3].

        strength: in (0, 1], how much noise is added first; steps: how often it is removed.
        """


class DiffusionModel:
    """A pipeline of diffusers with its weights. Implements `ImageModel`.

    Every image gets the same noise, so successive frames change alike. There is no guidance, as
    the distilled models want it. Nothing is fetched.
    """

    def __init__(self, folder: Path, device: torch.device, prompt: str = "", seed: int = 0):
        """Raises InputRejected as `ModelFolder.checked` and for a folder that cannot be loaded,
        EnvironmentFault where diffusers is not installed.
        """
        checked = ModelFolder.checked(folder)
        self.name = checked.path.resolve().name
        diffusers = load_diffusers()
        self._device, self._seed = device, seed
        number_format = torch.float16 if device.type == "cuda" else torch.float32
        try:
            pipeline = getattr(diffusers, checked.pipeline).from_pretrained(
                str(checked.path),
                local_files_only=True,
                use_safetensors=True,
                variant=checked.variant,
                dtype=number_format,
                low_cpu_mem_usage=False,
            )
            self._pipeline = pipeline.to(device)
        # The libraries raise many types for wrong files.
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise InputRejected(f"{folder} cannot be loaded", reason(error), FIX) from error
        except ImportError as error:
            fix = f"{INSTALL}, or give a model that needs no more"
            raise EnvironmentFault(f"{folder} cannot be loaded", reason(error), fix) from error
        self._pipeline.set_progress_bar_config(disable=True)
        self.multiple = 2 * int(self._pipeline.vae_scale_factor)
        self.side = self._side()
        self._prompt = self._encoded(prompt)

    def _side(self) -> int:
        """Side in px of the images that the model was trained on."""
        size = self._pipeline.unet.config.sample_size or 64
        size = size[0] if isinstance(size, (list, tuple)) else size
        return int(size) * int(self._pipeline.vae_scale_factor)

    @torch.no_grad()
    def _encoded(self, prompt: str) -> dict[str, torch.Tensor]:
        """The prompt as arguments of the pipeline, each [1, ...]; it is encoded once."""
        found = self._pipeline.encode_prompt(
            prompt=prompt,
            device=self._device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        arguments = {"prompt_embeds": found[0]}
        if len(found) == 4:  # SDXL
            arguments["pooled_prompt_embeds"] = found[2]
        return arguments

    @torch.no_grad()
    def change(self, images: np.ndarray, strength: float, steps: int) -> np.ndarray:
        """See `ImageModel`. Images that the model's own safety checker refuses stay as they are."""
        assert images.ndim == 4 and images.dtype == np.uint8, (images.shape, images.dtype)
        count = len(images)
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        repeated = {
            name: value.expand(count, *value.shape[1:]) for name, value in self._prompt.items()
        }
        made = self._pipeline(
            image=pixels.to(self._device, self._pipeline.unet.dtype),
            strength=strength,
            num_inference_steps=schedule_steps(strength, steps),
            guidance_scale=0.0,
            generator=[torch.Generator("cpu").manual_seed(self._seed) for _ in range(count)],
            output_type="np",
            **repeated,
        )
        changed = 255 * np.asarray(made.images, np.float32)
        refused = getattr(made, "nsfw_content_detected", None) or [False] * count
        for k, wrong in enumerate(refused):
            if wrong:
                changed[k] = images[k]
        return changed


def schedule_steps(strength: float, steps: int) -> int:
    """The length of a schedule of which `strength` are `steps` steps.

    The pipelines run the last int(length * strength) steps of it, which must not be 0.
    """
    length = math.ceil(steps / strength)
    while int(length * strength) < steps:
        length += 1
    return length


def load_diffusers() -> Any:
    """The module diffusers, which is told to make no connection. Raises EnvironmentFault where it
    is not installed.
    """
    os.environ["DIFFUSERS_OFFLINE"] = "1"
    os.environ.setdefault("DISABLE_TELEMETRY", "1")
    try:
        transformers = load_transformers()
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        import diffusers
    except ImportError as error:
        raise EnvironmentFault(
            "frames cannot be refined", f"a package is missing ({reason(error)})", INSTALL
        ) from error
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    return diffusers
