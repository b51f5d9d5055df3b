"""Measuring models: perplexity, agreement with a teacher, recall, drafts, harness tasks, and an n-gram baseline."""
