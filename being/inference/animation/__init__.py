"""Animation of eyes, brows and moods while an avatar speaks."""
