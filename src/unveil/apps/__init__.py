"""The four applications: short expressions over the core, and their input and output."""
