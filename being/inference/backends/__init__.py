"""The frame renderers: CUDA graph, native CPU code, torch."""
