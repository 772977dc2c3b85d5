"""Fine-tuning: labelled texts and a base model → a directory that ``batchsent score --model`` loads."""
