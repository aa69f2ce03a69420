//! Keys, signatures and trust roots.
