"""The words of captions: a tokenizer, made by a command."""
