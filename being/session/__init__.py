"""The live session: audio clock, epochs, idle motion, batched render worker. No web framework."""
