"""Where plans and policies act: simulators, their reference controllers and data collectors."""
