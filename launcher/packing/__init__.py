"""What goes into a kernel: the researcher's files, our packages, wheels; no secrets."""
