"""Training: text every machine has, a byte tokenizer, and a simple loop over an emitted model."""
