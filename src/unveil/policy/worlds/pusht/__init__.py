"""PushT: pushing a T-shaped block onto a target."""
