"""`unveil demo text-to-image`: a page of prompts and the pictures made of them."""
