"""What can be done with a corpus."""
