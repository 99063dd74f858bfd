"""Trains what the package ships: the live speech encoder and the readout of pauses."""
