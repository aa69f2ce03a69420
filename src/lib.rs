//! Carries signed operating-system updates across an air gap.
