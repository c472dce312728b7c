//! Whether `/dev/kvm` can run code.
