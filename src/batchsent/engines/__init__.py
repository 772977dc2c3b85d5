"""What spreads the work. Engines adapt and hold no logic: scoring and committing a part is the job's."""
