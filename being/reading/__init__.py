"""Readers of files that others may have written: every size is checked before it is allocated."""
