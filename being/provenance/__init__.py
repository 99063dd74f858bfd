"""Marks that say that a file is AI-generated: metadata, Content Credentials, watermark."""
