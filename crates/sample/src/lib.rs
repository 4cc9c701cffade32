//! The sample provider behind the demo and the tests, with switches for misbehaviour.
