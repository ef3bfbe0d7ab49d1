//! The walls of the house, as absences. ARCHITECTURE.md names them; this file keeps them.
