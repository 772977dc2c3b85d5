"""``batchsent plan``: what a run would do and take, from footers, a sample of the texts and a few forward passes."""
