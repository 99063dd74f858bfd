"""Import of trained GaussianTalker checkpoints."""
