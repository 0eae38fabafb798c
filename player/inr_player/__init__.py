"""The command `inr-play`: sinks, benchmark, comparison."""
