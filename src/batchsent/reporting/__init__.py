"""What a person or a scheduler sees of a run: progress, log lines, the run's record, the closing summary."""
