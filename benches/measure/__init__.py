"""What the benchmark's sections measure with."""
