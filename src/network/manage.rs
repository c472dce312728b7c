//! Making networks.
