"""Distils the live speech encoder (`being.audio.tcn_encoder`) from the phoneme conformer."""
