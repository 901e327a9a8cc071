"""File formats: reading runs no code from files and bounds their size; writing is atomic."""
