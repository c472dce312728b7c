//! What GNU tar unpacks, our images contain.
