"""The APIs of OpenAI: images, chats and completions, /v1."""
