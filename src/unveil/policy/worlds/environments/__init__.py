"""Any environment with gymnasium's interface: made by name, its observations by name."""
