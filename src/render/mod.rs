//! Desired → files: haproxy.cfg and its maps from Tera templates, with the provenance of each line.
//!
//! Pure but for the template text that is handed in. Refuses to know what runs now. Called by `agent` and `cli`.

mod rendered;

pub use rendered::{LineOrigin, MapFile, Rendered, RuntimeNames};
