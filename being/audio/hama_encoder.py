"""The default speech encoder: the phoneme conformer's hidden states, plus articulation channels."""

from __future__ import annotations

import numpy as np
import torch

from being.audio.articulation import ARTICULATION_CHANNELS, articulation_channels
from being.audio.encoder_interface import PieceEncoder
from being.audio.phoneme_conformer import pretrained_conformer


class HamaEncoder(PieceEncoder):
    """Hidden states after the second block of the conformer, then two articulation channels.

    These hidden states are the best lip features that were measured. Datasets from before the
    articulation channels hold the hidden states alone.

    Attention spans a whole piece, so pieces differ a little from one pass over everything (9 % of
    a state's length over 60 s of speech, correlation 0.994). The edge of a piece changes the steps
    within 0.5 s of it, which is half of the context.
    """

    name = "hama"
    blocks = 2

    def __init__(self) -> None:
        self.model = pretrained_conformer("cpu")
        self.hidden_width = self.model.width
        self.width = self.model.width + ARTICULATION_CHANNELS

    def move_to(self, device: str) -> None:
        """Use the network on `device`."""
        self.model = pretrained_conformer(device)

    @torch.inference_mode()
    def encode_pieces(self, pieces: np.ndarray) -> np.ndarray:
        """See `PieceEncoder.encode_pieces`.

        The network's own steps are centred on k / 50 s. Without the first mel frame they are half a
        step later, on (k + 1/2) / 50 s. So the window of steps 2 i - 8 to 2 i + 7 is centred
        exactly on frame i.
        """
        mel = self.model.log_mel(torch.from_numpy(pieces).to(self.model.mel.device))
        hidden = self.model.hidden(mel[:, :, 1:], self.blocks)
        phonemes = self.model.phonemes(hidden, self.blocks)
        articulation = articulation_channels(phonemes.cpu().numpy())
        return np.concatenate([hidden.cpu().numpy(), articulation], 2)
