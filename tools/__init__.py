"""What `make` runs: set-up, the lab, the book, the tests. Nothing here is installed with pplkit."""
