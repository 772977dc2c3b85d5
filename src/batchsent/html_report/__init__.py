"""``batchsent report``: one HTML page of what a run has done, complete in itself."""
