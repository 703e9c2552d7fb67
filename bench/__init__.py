"""What the harness costs, measured on this host: `make bench`."""
