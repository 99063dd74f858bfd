"""Waveform -> speech features: encoders behind one interface, windows as the model family cuts
them.
"""
