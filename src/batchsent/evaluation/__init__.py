"""``batchsent evaluate``: how good models are on labelled data, and which of them is better."""
