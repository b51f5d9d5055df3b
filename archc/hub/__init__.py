"""Reading and writing checkpoints: archc's own directory, and foreign families as tables."""
