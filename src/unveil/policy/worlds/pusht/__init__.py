"""PushT: a block pushed to its place."""
