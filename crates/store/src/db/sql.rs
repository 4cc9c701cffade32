//! What both drivers do to the text of statements.
