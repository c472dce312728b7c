"""Builds the demonstration's OCI images out of Debian packages."""
