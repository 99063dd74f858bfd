"""A page on this machine that shows a training while it runs: figures, sheets, preview videos."""
