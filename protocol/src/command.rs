//! A client's frame after it was checked against the limits.
