"""Block stacking: the Kuka arm of Diffuser on MuJoCo, its tasks, and the demonstrator that makes its data."""
