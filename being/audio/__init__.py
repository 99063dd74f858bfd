"""Speech features of audio: encoders behind one interface, and feature windows of video frames."""
