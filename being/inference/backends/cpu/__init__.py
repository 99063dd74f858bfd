"""The CPU renderer and its C++ library."""
