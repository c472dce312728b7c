"""The benchmark's sections, each a module with a function `run(setting)`."""
