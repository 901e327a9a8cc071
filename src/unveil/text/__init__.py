"""Text: tokens from masks."""
