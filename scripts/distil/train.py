"""Train the causal conformer, the speech encoder of live sessions.

    python -m scripts.distil.train FILE.safetensors [--seed 0] [--corpus FOLDER]

It makes synthetic speech (`corpus.py`; Kokoro's part takes about 5 min of processor time, all else
one), varies it (voice, room, microphone, noise, level; `being.audio.voice_augmentation`), lets the
phoneme conformer encode each variant as a whole, and trains the causal network to give the same
steps from what it may read. About 4 min of processor time. It prints the distance from the
conformer's steps on held-out speech, as a share of their power, as it falls. The last line is JSON.

--corpus keeps the speech and what the conformer says of it for other seeds. The same seed gives the
same weights on the same machine and versions.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import Tensor

from being.audio.articulation import ARTICULATION_CHANNELS, CHANNEL_MAX
from being.audio.causal_conformer import compress
from being.audio.hama_encoder import HamaEncoder
from being.audio.phoneme_conformer import pretrained_conformer
from being.audio.voice_augmentation import augmented_voice
from being.conventions import SAMPLE_RATE, SAMPLES_PER_STEP
from scripts.distil.corpus import espeak_speech, hibari_speech, kokoro_speech
from scripts.distil.student import Student

CORPUS_SEED = 0
# Texts: of hibari; of each language and variant of espeak-ng; of each of Kokoro's voices.
HIBARI_TEXTS, ESPEAK_TEXTS, KOKORO_TEXTS = 60, 2, 1
# Each text is heard as it is and in other voices and rooms.
VARIANTS = 3
# Silence before a text, at most, and after it, s.
LEAD_IN_S, TAIL_S = 0.5, 0.5
HELD_OUT = 37  # every so many texts one is not trained on
# Of a batch: stretches, and steps of a stretch. Share of stretches that start with their text.
BATCH, STRETCH = 12, 250
STARTS = 0.2
# Steps of a stretch that do not count, since they lack their past or their future.
NO_PAST, NO_FUTURE = 12, 8
STEPS, WARM_UP = 700, 0.1
# Learning rates of the blocks, which begin with the conformer's weights, and of the new head.
RATE, HEAD_RATE = 4e-4, 3e-3
ARTICULATION_WEIGHT = 0.5
SILENT_MEL = -23.0
REPORT = 50


@dataclass(frozen=True)
class Lesson:
    """One text as it is heard, and what the phoneme conformer says of it."""

    mel: np.ndarray  # float16 [80, 2 S + 1]
    taught: np.ndarray  # float16 [S, 146]


def main() -> None:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        lessons = load_lessons(options.corpus or Path(folder))
    student, figures = train(lessons, options.seed, options.steps)
    state = {name: value.numpy() for name, value in student.state_dict().items()}
    state["mel"] = pretrained_conformer().mel.numpy()
    save_file(compress(state), options.file)
    print(json.dumps({**figures, "bytes": options.file.stat().st_size}))


def load_lessons(folder: Path) -> list[Lesson]:
    """The lessons of the corpus, made where the folder lacks them."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = {
        "hibari": lambda: hibari_speech(HIBARI_TEXTS, CORPUS_SEED),
        "espeak": lambda: espeak_speech(ESPEAK_TEXTS, CORPUS_SEED),
        "kokoro": lambda: kokoro_speech(KOKORO_TEXTS, CORPUS_SEED),
    }
    lessons = []
    for name, speech in sources.items():
        done = folder / f"{name}.done"
        if not done.exists():
            for number, samples in enumerate(speech()):
                for variant, lesson in enumerate(teach(samples, number)):
                    file = folder / f"{name}_{number:03d}_{variant}.npz"
                    np.savez(file, mel=lesson.mel, taught=lesson.taught)
            done.touch()
        for file in sorted(folder.glob(f"{name}_*.npz")):
            with np.load(file) as arrays:
                lessons.append(Lesson(arrays["mel"], arrays["taught"]))
        print(f"{name}: {len(lessons)} lessons", flush=True)
    return lessons


def teach(samples: np.ndarray, number: int) -> list[Lesson]:
    """The lessons of one text, float32 [T] at 16 kHz: as it is, and varied."""
    encoder = HamaEncoder()
    rng = np.random.default_rng((CORPUS_SEED, number))
    lead = np.zeros(int(rng.uniform(0, LEAD_IN_S) * SAMPLE_RATE), np.float32)
    tail = np.zeros(int(TAIL_S * SAMPLE_RATE), np.float32)
    plain = np.concatenate([lead, samples, tail])
    plain = plain[: len(plain) // SAMPLES_PER_STEP * SAMPLES_PER_STEP]
    lessons = []
    for variant in range(VARIANTS):
        heard = plain
        if variant:
            heard = augmented_voice(plain, CORPUS_SEED, VARIANTS * number + variant)
        mel = encoder.model.log_mel(torch.from_numpy(heard)[None])[0].numpy()
        taught = encoder.encode_clip(heard)
        lessons.append(Lesson(mel.astype(np.float16), taught.astype(np.float16)))
    return lessons


def train(lessons: list[Lesson], seed: int, steps: int) -> tuple[Student, dict[str, float]]:
    """The trained network, and its distances on held-out texts."""
    groups = [lessons[k : k + VARIANTS] for k in range(0, len(lessons), VARIANTS)]
    held_out = [lesson for group in groups[::HELD_OUT] for lesson in group]
    known = [lesson for k, group in enumerate(groups) if k % HELD_OUT for lesson in group]
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    student = Student(pretrained_conformer()).requires_grad_(True)
    head = [*student.head.parameters(), *student.head_out.parameters()]
    taught = [*student.subsample.parameters(), *student.blocks.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": taught}, {"params": head}], RATE, (0.9, 0.98), weight_decay=1e-3
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [RATE, HEAD_RATE], total_steps=steps, pct_start=WARM_UP
    )
    start, figures = time.process_time(), {}
    for step in range(1, steps + 1):
        hidden, articulation = losses(student, *draw(known, rng))
        optimizer.zero_grad()
        (hidden + ARTICULATION_WEIGHT * articulation).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % REPORT == 0 or step == steps:
            figures = distances(student, held_out)
            print(step, figures, f"{time.process_time() - start:.0f} s", flush=True)
    return student.eval().requires_grad_(False), figures


def draw(lessons: list[Lesson], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A batch: mel [B, 80, 2 S + 1], steps of the conformer [B, S, 146], weights [B, S]."""
    mel = np.full((BATCH, len(lessons[0].mel), 2 * STRETCH + 1), SILENT_MEL, np.float32)
    taught = np.zeros((BATCH, STRETCH, lessons[0].taught.shape[1]), np.float32)
    weight = np.zeros((BATCH, STRETCH), np.float32)
    for k in range(BATCH):
        lesson = lessons[rng.integers(len(lessons))]
        latest = max(0, len(lesson.taught) - STRETCH)
        first = 0 if rng.random() < STARTS else int(rng.integers(latest + 1))
        count = min(STRETCH, len(lesson.taught) - first)
        mel[k, :, : 2 * count + 1] = lesson.mel[:, 2 * first : 2 * (first + count) + 1]
        taught[k, :count] = lesson.taught[first : first + count]
        weight[k, NO_PAST if first else 0 : count - NO_FUTURE] = 1
    return torch.from_numpy(mel), torch.from_numpy(taught), torch.from_numpy(weight)


def losses(student: Student, mel: Tensor, taught: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared distance of the hidden states; cross-entropy of the articulation channels."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden, articulation = student(mel)
    hidden, articulation = hidden.float(), articulation.float()
    split = taught.shape[2] - ARTICULATION_CHANNELS
    apart = (hidden - taught[..., :split]).square().mean(2)
    wanted = (taught[..., split:] / CHANNEL_MAX).clamp(0, 1)
    entropy = F.binary_cross_entropy_with_logits(articulation, wanted, reduction="none").mean(2)
    return (apart * weight).sum() / weight.sum(), (entropy * weight).sum() / weight.sum()


@torch.no_grad()
def distances(student: Student, lessons: list[Lesson]) -> dict[str, float]:
    """Of held-out lessons: distance of the hidden states as a share of their power, and the
    correlation of the two articulation channels.
    """
    apart, power, told, true = 0.0, 0.0, [], []
    for lesson in lessons:
        mel = torch.from_numpy(lesson.mel.astype(np.float32))[None]
        hidden, articulation = student(mel)
        taught = lesson.taught[:-NO_FUTURE].astype(np.float32)
        split = taught.shape[1] - ARTICULATION_CHANNELS
        found = hidden[0, : len(taught)].numpy()
        apart += float(np.square(found - taught[:, :split]).sum())
        power += float(np.square(taught[:, :split]).sum())
        told.append(torch.sigmoid(articulation[0, : len(taught)]).numpy())
        true.append(taught[:, split:] / CHANNEL_MAX)
    channels = np.concatenate(told), np.concatenate(true)
    closure, opening = (
        float(np.corrcoef(channels[0][:, k], channels[1][:, k])[0, 1]) for k in range(2)
    )
    return {
        "distance": round(apart / power, 4),
        "closure_r": round(closure, 3),
        "opening_r": round(opening, 3),
    }


if __name__ == "__main__":
    main()
