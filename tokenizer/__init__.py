"""Text to token ids and back, and the chat template. Imports nothing else of this project."""
