"""Parts of HTML reports: line charts, grids of images, style."""
