"""The audit: which of 464 million configurations print the reported counts."""
