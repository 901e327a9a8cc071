"""`unveil train lora`: adapters of image models, DreamBooth."""
