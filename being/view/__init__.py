"""Pictures, a page and a window that show an avatar or a dataset in three dimensions."""
