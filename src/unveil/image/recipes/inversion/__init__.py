"""`unveil train inversion`: learned words of image models, textual inversion."""
