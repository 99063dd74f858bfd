"""The avatar model: GaussianTalker, the canonical Gaussians, the avatar bundle."""
