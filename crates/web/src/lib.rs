//! Pages: status, Connect UI and callback, embedded in the binary.
