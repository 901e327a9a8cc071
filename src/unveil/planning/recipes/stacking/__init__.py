"""`unveil VERB stacking`: block stacking with the Kuka arm."""
