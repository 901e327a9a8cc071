"""The forward process, its noise schedules and timesteps, parameterizations, and training losses."""
