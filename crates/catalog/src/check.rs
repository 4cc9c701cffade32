//! Rules about a definition as a whole, and the check of a catalogue.

use patchbay_types::JsonMap;

use crate::definition::{Definition, Note};

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What must hold for the entry to work.
    Load,
    /// Everything, patterns and examples included.
    Check,
}

pub(crate) fn definition(_definition: &Definition, _wire: &JsonMap, _depth: Depth, _notes: &mut Vec<Note>) {}
