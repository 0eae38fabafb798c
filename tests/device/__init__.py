"""What a machine can play, and how well: run on boards and GPUs that CI does not have."""
