"""PushT: push a T-shaped block onto its mark (Chi et al. 2023; the task is of Florence et al. 2021)."""
