//! Provider definitions: format, embedded catalogue, overrides, templates, forms.
