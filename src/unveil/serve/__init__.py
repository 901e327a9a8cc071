"""`unveil serve`: the web page, and the HTTP APIs that other programs speak."""
