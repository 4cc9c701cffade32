//! Provider definitions: format, embedded catalogue, overrides, templates, forms.
//!
//! ```text
//! source      files and the binary -> entries with their positions (YAML, JSON)
//! catalogue   entries -> providers: overrides, aliases, typing; swapped while in use
//! definition  one provider, typed; `Provider::wire` is what the API serves
//! template    `${…}`, compiled when the catalogue is loaded, rendered on the hot path
//! forms       definition -> the end user's form, and the check of what was submitted
//! page        definition -> the provider's page in `docs/providers/`
//! check       rules; everything wrong is a `Finding` with file, line, column and suggestion
//! ```
//! A text that does not fit costs the entry it is in, never the file: faulty entries are reported and left out, and
//! what they would have replaced stays in use.

pub mod catalogue;
pub mod check;
pub mod definition;
pub mod diff;
pub mod finding;
pub mod forms;
pub mod integration_config;
pub mod page;
pub mod pem;
pub mod scopes;
pub mod sigv4;
pub mod template;

mod language;
mod shipped;
mod source;
mod suggest;
#[expect(
    unreachable_pub,
    reason = "shared with the build script, which is another crate"
)]
mod yaml;

pub use catalogue::{Catalogue, CatalogueHandle, Provider};
pub use definition::Definition;
pub use finding::{Finding, Origin, Severity};
pub use forms::{Form, FormContext};
pub use language::Language;
pub use source::{Source, StoredDefinition};
pub use template::{Mode, Scope, Template};
