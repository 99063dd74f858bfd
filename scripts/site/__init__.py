"""What `make docs` makes of the repository for the site: generated pages and links."""
