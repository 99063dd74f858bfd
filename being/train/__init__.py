"""Training: from a dataset to a run with checkpoints and an avatar (`training.train_avatar`)."""
