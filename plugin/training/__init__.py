"""Fine-tuning: the store of examples, how coverage becomes one, and what is trained on it."""
